"""How fast the layers are, beside others' and beside what the memory allows.

`make bench-quick` prints the headlines, `make bench` measures everything and writes
`benchmarks/results/`: `results.json`, `results.md` and `ratios.png`.

**Times.** Peers that share a process (a *set*) are called in turns, round after round, so that
whatever else the machine does meets all of them. A time is the median of the rounds; the first
calls, which compile and fill caches, are left out. Layers run as in training: forward in training
mode; a *step* is the forward pass, kept, and the gradients of x and all weights given dy, with the
updates of moving statistics. A set's process ends with it, so that no set inherits memory.

**Floor.** In the same turns runs a copy, `x + 1`: one read and one write of the tensor, two
*moves*. A step makes 8 moves: it reads x for the statistics, reads x and writes y, reads x and dy
for the gradients' sums, reads x and dy and writes dx. A forward pass makes 3. The floor is the time
of that many moves at the copy's speed. It is a yardstick, not a bound: reads cost less than writes,
and some of our times lie below it. A read, `sum(x)`, runs along as a second witness. A tensor that
fits into a cache has no such floor: small inputs have a table of their own.

**Ratios.** The peer's time over ours, above 1 where ours is faster; a row's is the geometric mean
over its shapes, of which bfloat16 and mixed_float16 have one. Peers of other libraries live in
environments and processes of their own. Both are run right after one another, for every shape. The
ratio is given twice, of the times and of the times over each process's own copy, since a library's
way to get memory is in its copy, too. All use as many threads as the process may use cores. PyTorch
suffers most from company on the machine: the load at the start stands in the results.

**Memory.** What a step keeps between forward and backward: see `benchmarks.memory`.
"""
