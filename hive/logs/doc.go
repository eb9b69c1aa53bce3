// Package logs looks after the logs of workers: it rotates them, reads them back over
// all rotations, and removes those of workers that have ended. It knows a worker only as
// a Source, and touches nothing but the files of its directory that are named like logs.
//
// # Model
//
//	<worker id>.log      the worker itself appends to it
//	<worker id>.log.1    what was moved out of it last; the higher the number, the older
//	<worker id>.log.new  the next .1, while it is written
//
// A worker appends to its log itself, so it needs no pipe and notices nothing when
// hive dies. Every few seconds Run looks at the sizes of live workers' logs, and moves
// the head of one that is too large to a rotated file. The log stays the same file, as
// it proves which processes belong to the worker: their stdout is that file. Where the
// file system can take blocks out of the head of a file nothing is lost; else the log is
// copied and truncated, and what is written between the last read and that is lost. It is
// cut, too, when there is no room to copy it.
//
// A position in a log is a number of bytes that does not change when it is rotated.
// Bytes are copied without holding anybody up; positions change under a lock, in one
// step with the files. A Reader asks under that lock which file holds its position. So
// it reads everything once and in order, in this hive; what the log was before it
// was started is found again by the names of the files.
//
// A worker of another user owns its log: it can cut it, stretch it to terabytes by a
// hole, and set room aside, at any time, but not replace it, the directory being
// hive's. So every read has a context and a bound, holes are passed over
// (lseek(2), SEEK_DATA) and never copied, and a rotated file is hive's own.
//
// Prune bounds the logs of ended workers, but for those that are evidence, and removes
// logs without a worker. Whoever starts one holds a Claim until its Source is listed.
//
// # Guarantees
//
//   - The file that a worker appends to is never replaced, renamed, or removed while its
//     Source is listed as live.
//   - A Reader yields no byte twice, and none out of order. What is neither removed nor a
//     hole it yields.
//   - A log and what was moved out of it take at most about (Keep + 1) × MaxSize bytes, and
//     what the worker writes between two looks.
//   - Nothing but a regular file is read or written: no link is followed, no fifo or lease
//     is waited for. A log that lies elsewhere, or is not the file that it was, is not changed.
//
// # Caveats
//
//   - A hive that is killed between the two last steps of a rotation leaves a segment
//     in two files. The next start removes one, unless the log was larger than
//     twice MaxSize and had to be copied.
//   - A rotated file may begin and end in the middle of a line.
//   - Only Linux can take heads away and knows holes; elsewhere logs are copied and truncated.
package logs
