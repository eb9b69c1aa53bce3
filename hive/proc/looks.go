package proc

import (
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sync/singleflight"
)

// Look is something that is asked of files whose file system may not answer, with the rights of
// a user. It is asked by a process of its own (see LookApart): a thread that waits for a file
// system cannot be ended in some cases, and the process that it belongs to does not end either.
type Look[A, R any] struct {
	name string
	do   func(A) (R, error)
}

// NewLook returns a look, for a variable of a package: by its name the process that looks finds
// do, which must use nothing but its arguments. Both types are such that gob can encode them.
func NewLook[A, R any](name string, do func(A) (R, error)) Look[A, R] {
	l := Look[A, R]{name, do}
	lookFuncs[name] = l.serve
	return l
}

// lookFuncs are all looks, by name. It is complete before main begins.
var lookFuncs = map[string]func(lookRequest) lookAnswer{}

// looks belongs to the process, as do those that hang.
var looks singleflight.Group

// As looks, with the rights that AsUser gives: errors are those of AsUser too. One that hangs
// is waited for by all who ask the same, and not begun again, because each keeps a thread.
// What is returned may be shared. Of an error of the look itself its text is left, the number
// of a system call, and the sentinels of this package.
func (l Look[A, R]) As(ctx context.Context, user string, args A) (R, error) {
	answered := looks.DoChan(fmt.Sprintf("%s\x00%s\x00%#v", user, l.name, args), func() (any, error) {
		return l.ask(user, args)
	})
	var none R
	select {
	case a := <-answered:
		v, _ := a.Val.(R) // its zero value beside an error
		return v, a.Err
	case <-ctx.Done():
		return none, unanswered(ctx)
	}
}

// ask has the look done by the other process, or here where there is none.
func (l Look[A, R]) ask(user string, args A) (v R, err error) {
	var sent bytes.Buffer
	if err := gob.NewEncoder(&sent).Encode(args); err != nil {
		return v, fmt.Errorf("look: %w", err)
	}
	answer, ok := lookApart(lookRequest{Look: l.name, User: user, Args: sent.Bytes()})
	switch {
	case !ok:
		return AsUser(context.Background(), user, func() (R, error) { return l.do(args) }) // not with a ctx, which is one caller's
	case answer.Failed:
		return v, answer.failure()
	}
	err = gob.NewDecoder(bytes.NewReader(answer.Value)).Decode(&v)
	return v, err
}

// serve does the look in the other process.
func (l Look[A, R]) serve(r lookRequest) lookAnswer {
	var args A
	var v R
	err := gob.NewDecoder(bytes.NewReader(r.Args)).Decode(&args)
	if err == nil {
		v, err = AsUser(context.Background(), r.User, func() (R, error) { return l.do(args) })
	}
	var value bytes.Buffer
	if err == nil {
		err = gob.NewEncoder(&value).Encode(v)
	}
	answer := lookAnswer{ID: r.ID, Value: value.Bytes()}
	if err != nil {
		answer.fail(err)
	}
	return answer
}

type lookRequest struct {
	ID         uint64
	Look, User string
	Args       []byte
}

type lookAnswer struct {
	ID        uint64
	Value     []byte
	Failed    bool
	Error     string
	Errno     syscall.Errno // 0: none
	Sentinels []int         // of lookSentinels
}

var lookSentinels = []error{ErrProgramNotFound, ErrOtherUser, ErrUnknownUser}

func (a *lookAnswer) fail(err error) {
	a.Failed, a.Error = true, err.Error()
	a.Errno, _ = errors.AsType[syscall.Errno](err)
	for i, sentinel := range lookSentinels {
		if errors.Is(err, sentinel) {
			a.Sentinels = append(a.Sentinels, i)
		}
	}
}

func (a *lookAnswer) failure() error {
	e := &lookError{text: a.Error}
	if a.Errno != 0 {
		e.wraps = append(e.wraps, a.Errno)
	}
	for _, i := range a.Sentinels {
		e.wraps = append(e.wraps, lookSentinels[i])
	}
	return e
}

// lookError is an error that the other process has sent.
type lookError struct {
	text  string
	wraps []error
}

func (e *lookError) Error() string { return e.text }

func (e *lookError) Unwrap() []error { return e.wraps }

// lookTimeout is how long a look for a program may take.
const lookTimeout = 5 * time.Second

// FindProgram is LookPath for a program whose file system may not answer: after lookTimeout
// the error wraps ErrHangs. Errors are ctx's besides.
func FindProgram(ctx context.Context, program, dir string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	path, err := lookForProgram.As(ctx, "", [2]string{program, dir})
	if errors.Is(err, ErrHangs) {
		err = fmt.Errorf("look for %s: %w", program, err)
	}
	return path, err
}

var lookForProgram = NewLook("program", func(a [2]string) (string, error) { return LookPath(a[0], a[1]) })

// FileFacts are what a look at a file says of it.
type FileFacts struct {
	Mode     os.FileMode
	Size     int64
	Modified time.Time
}

// StatFile is os.Stat of a file whose file system may not answer: after lookTimeout the error
// wraps ErrHangs. Errors are ctx's besides.
func StatFile(ctx context.Context, path string) (FileFacts, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	return lookAtFile.As(ctx, "", path)
}

var lookAtFile = NewLook("file", func(path string) (FileFacts, error) {
	info, err := os.Stat(path)
	if err != nil {
		return FileFacts{}, err
	}
	return FileFacts{info.Mode(), info.Size(), info.ModTime()}, nil
})

// unanswered is the error of a call that has not returned when ctx ended: only where the time
// was over, and the caller has not gone, does that say anything of the file system.
func unanswered(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("%w: %w", ErrHangs, context.Cause(ctx))
	}
	return context.Cause(ctx)
}
