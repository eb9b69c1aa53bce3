// Package hardware says what this machine has to run models on: GPUs, processors and
// memory, and what processes use of the GPUs.
//
// NVIDIA's GPUs are known from nvidia-smi, whose text is the only interface that
// needs no C library; AMD's from /sys/class/drm; processors and memory from /proc and
// the limits of hive's own cgroups, v2 and v1, in which its workers live too.
//
// # Guarantees
//
//   - Devices blocks for Options.Timeout at most, and from the second call on not at
//     all: it returns what is known, and refreshes it in the background.
//   - Nothing is read unless somebody calls, and one program is run at a time.
//   - What cannot be known is empty or 0, in Devices and in Usage.
//
// # Caveats
//
//   - nvidia-smi names processes by the PIDs of its own namespace. A hive in a container
//     without the host's PID namespace sees the GPUs, but not who uses them.
//   - An AMD GPU has no compute capability, and its usage by process is not known.
package hardware
