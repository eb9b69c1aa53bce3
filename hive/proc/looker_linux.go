package proc

import (
	"encoding/gob"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// A file system that does not answer keeps a thread for as long as it likes, kill -9 or not
// (request_wait_answer in fs/fuse/dev.c), and a process with such a thread stays: whoever waits
// for its end waits, and its memory and descriptors stay too, with the lock of a state file that
// it has mapped. So hive has its looks done by another process, which may stay: it has nothing
// of hive's but two pipes.

// lookerArg0 is argv[0] of that process, which is this binary.
const lookerArg0 = "hive-look"

// lookerIdle is how long the process is kept that has nothing to do.
const lookerIdle = 10 * time.Second

// ServeLooks is the main function of the process that looks, and reports whether this is one.
// A program that calls LookApart must call it first.
func ServeLooks() bool {
	if os.Args[0] != lookerArg0 {
		return false
	}
	_ = os.WriteFile("/proc/self/comm", []byte(lookerArg0), 0) // else ps shows "exe"
	var answering sync.Mutex
	requests, answers := gob.NewDecoder(os.Stdin), gob.NewEncoder(os.Stdout)
	for {
		var r lookRequest
		if requests.Decode(&r) != nil {
			return true // hive has ended, or needs it no more: what hangs is left
		}
		go func() {
			answer := lookFuncs[r.Look](r)
			answering.Lock()
			defer answering.Unlock()
			_ = answers.Encode(answer) // nobody may be there to read it
		}()
	}
}

// apart has the process that looks. It is started when it is needed.
var apart lookers

type lookers struct {
	mu      sync.Mutex
	enabled bool
	now     *looker // nil: there is none
}

// looker is that process, as hive sees it.
type looker struct {
	pid      int
	stdin    io.WriteCloser
	requests *gob.Encoder
	last     uint64 // number of a request
	pending  map[uint64]chan lookAnswer
	idle     *time.Timer
}

// LookApart has all looks from now on done by a process of their own. It is for a program
// whose main function begins with ServeLooks.
func LookApart() {
	apart.mu.Lock()
	defer apart.mu.Unlock()
	apart.enabled = true
}

// lookApart has a look done by the other process. It blocks for as long as the file system
// does. ok is false if there is no such process.
func lookApart(r lookRequest) (answer lookAnswer, ok bool) {
	for range 2 { // it may have ended in this moment
		answered := apart.send(r)
		if answered == nil {
			break
		}
		if answer, ok = <-answered; ok {
			return answer, true
		}
	}
	return lookAnswer{}, false
}

// send sends a request; nil: there is nobody to send it to. The channel is closed without an
// answer if the process ends.
func (a *lookers) send(r lookRequest) <-chan lookAnswer {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.enabled {
		return nil
	}
	if a.now == nil && a.start() != nil {
		return nil
	}
	l := a.now
	l.last++
	r.ID = l.last
	answered := make(chan lookAnswer, 1)
	l.pending[r.ID] = answered
	l.idle.Stop()
	// It reads at all times, so this does not block.
	if l.requests.Encode(r) != nil {
		// Half a request may have been written: it can be sent nothing more.
		delete(l.pending, r.ID)
		close(answered)
		_ = l.stdin.Close()
		a.now = nil
	}
	return answered
}

// start starts the process; mu is held.
func (a *lookers) start() error {
	cmd := exec.Command("/proc/self/exe") //nolint:noctx // it ends with its input
	cmd.Args = []string{lookerArg0}
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")} // programs are looked for in it; hive's secrets stay with hive
	// A session of its own: what a terminal sends is for hive. Nothing of hive's output: one
	// that stays would keep it open.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	children.fork.RLock()
	defer children.fork.RUnlock()
	if err := cmd.Start(); err != nil {
		return err
	}
	l := &looker{pid: cmd.Process.Pid, stdin: stdin, requests: gob.NewEncoder(stdin), pending: map[uint64]chan lookAnswer{}}
	l.idle = time.AfterFunc(lookerIdle, func() { a.dismiss(l) })
	children.add(l.pid)
	a.now = l
	go func() {
		a.receive(l, gob.NewDecoder(stdout))
		_ = cmd.Wait() // how it has ended says nothing
		children.remove(l.pid)
	}()
	return nil
}

// receive hands the answers on until the process ends.
func (a *lookers) receive(l *looker, answers *gob.Decoder) {
	for {
		var answer lookAnswer
		if answers.Decode(&answer) != nil {
			break
		}
		a.mu.Lock()
		if answered, ok := l.pending[answer.ID]; ok {
			answered <- answer
			delete(l.pending, answer.ID)
		}
		if len(l.pending) == 0 {
			l.idle.Reset(lookerIdle)
		}
		a.mu.Unlock()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	l.idle.Stop()
	for _, answered := range l.pending {
		close(answered)
	}
	if a.now == l {
		a.now = nil
	}
}

// dismiss ends a process that has nothing to do.
func (a *lookers) dismiss(l *looker) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(l.pending) > 0 {
		return
	}
	_ = l.stdin.Close()
	if a.now == l {
		a.now = nil
	}
}
