package main

import (
	"io"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"
)

// finishTimeout is how long the end of hive waits for who reads its output.
const finishTimeout = time.Second

// Bounds of what waits to be written. A burst of requests is some hundred lines.
const (
	maxOutputLines = 4096
	maxOutputBytes = 4 << 20
)

// output is a stream of hive's own, which somebody else reads, slowly or not at all. A Write
// never blocks and never fails: what finds no room, or nobody to read it, is dropped and
// counted. The stream may be a pipe or a socket of the service manager's.
type output struct {
	to      io.Writer
	queue   chan item
	waiting atomic.Int64  // bytes in the queue
	lost    atomic.Uint64 // writes that were dropped
	// resumed is told how many were, by the goroutine that writes, when one succeeds again.
	resumed atomic.Pointer[func(lost uint64)]
}

// item is a text, or the end, with who waits for that.
type item struct {
	text     []byte
	finished chan struct{}
}

// newOutput begins to write to a stream, until finish is called.
func newOutput(to io.Writer) *output {
	o := &output{to: to, queue: make(chan item, maxOutputLines)}
	go o.run()
	return o
}

// ignoreSIGPIPE makes a write to a pipe that nobody reads any more an error. Unhandled it
// ends a Go program, if the pipe is stdout or stderr (os/signal). Programs that hive starts
// have the default again: execve(2) keeps what is ignored, but not what is handled.
func ignoreSIGPIPE() {
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
}

// Write implements io.Writer.
func (o *output) Write(p []byte) (int, error) {
	n := int64(len(p))
	if o.waiting.Add(n) > maxOutputBytes {
		o.waiting.Add(-n)
		o.lost.Add(1)
		return len(p), nil
	}
	select {
	case o.queue <- item{text: append([]byte(nil), p...)}: // the caller uses p again
	default:
		o.waiting.Add(-n)
		o.lost.Add(1)
	}
	return len(p), nil
}

func (o *output) run() {
	told := uint64(0)
	for next := range o.queue {
		if next.finished != nil {
			close(next.finished)
			return
		}
		o.waiting.Add(-int64(len(next.text)))
		if _, err := o.to.Write(next.text); err != nil {
			o.lost.Add(1)
			continue
		}
		if lost := o.lost.Load(); lost > told {
			if tell := o.resumed.Load(); tell != nil {
				(*tell)(lost - told)
			}
			told = lost
		}
	}
}

// finish waits until what was written before has gone out, at most for limit: then the
// goroutine may be in a write that never returns, and ends with the process. What is written
// later is dropped.
func (o *output) finish(limit time.Duration) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	mark := item{finished: make(chan struct{})}
	select {
	case o.queue <- mark:
	case <-timer.C:
		return
	}
	select {
	case <-mark.finished:
	case <-timer.C:
	}
}
