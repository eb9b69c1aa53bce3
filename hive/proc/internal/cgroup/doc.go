// Package cgroup is the mechanics of cgroup v2 that package proc needs: where it is
// mounted, which group a process is in, and who is in a group and below it; killing,
// removing and counting.
//
// It knows nothing of hive's names: which group is a worker's, and whether it may be
// killed, package proc decides. Functions that take a dir take the absolute path of a
// group's directory and do what they are told.
package cgroup
