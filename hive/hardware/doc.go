// Package hardware says what this machine has to run models on: GPUs, processors and
// memory, and what processes use of the GPUs.
//
// NVIDIA's GPUs are known from nvidia-smi, whose text is the only interface that
// needs no C library; AMD's from /sys/class/drm; processors and memory from /proc and
// the limits of hive's own cgroups, v2 and v1, in which its workers live too.
//
// # Guarantees
//
//   - Devices never waits longer than Options.Limit, and from the second call on not
//     at all: it answers with what is known, and has it looked at again meanwhile.
//   - Nothing is looked at while nobody asks, and one program is run at a time.
//   - What cannot be known is said as such: Devices leaves it empty or 0, Use is 0.
//
// # Caveats
//
//   - nvidia-smi speaks of processes by the numbers of its own PID namespace. A hive in
//     a container without the host's sees GPUs, and no use of them.
//   - An AMD GPU has no compute capability, and the use of one by process is not known.
package hardware
