package proc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// lookAtProgram returns an error if a program is for the gate. It is asked with the rights of
// the user who is to execute it.
var lookAtProgram = NewLook("traceable", func(path string) (bool, error) { return true, traceable(path) })

const (
	// maxInterpreters is how often a script may be the interpreter of another (execve(2)).
	maxInterpreters = 5
	// headLength is what the kernel reads of a program to see what it is (BINPRM_BUF_SIZE).
	headLength = 256
	// machineAMD64 is EM_X86_64 of elf(5).
	machineAMD64 = 62
)

// traceable returns nil for a program whose execve keeps the death signal and gives the
// rights that it gives without a tracer: one that its user may read, without a set-user-id or
// set-group-id bit or file capabilities (prctl(2), PR_SET_PDEATHSIG; execve(2)), of this
// architecture. Of a script that is said of what interprets it.
func traceable(path string) error {
	for range maxInterpreters {
		head, err := programHead(path)
		if err != nil {
			return err
		}
		script, isScript := bytes.CutPrefix(head, []byte("#!"))
		if !isScript {
			return checkELF(head)
		}
		line, _, _ := bytes.Cut(script, []byte("\n"))
		fields := bytes.Fields(line)
		if len(fields) == 0 || fields[0][0] != '/' {
			return errors.New("it is a script without the path of an interpreter")
		}
		path = string(fields[0])
	}
	return errors.New("it is a script of a script of a script")
}

// programHead returns the first bytes of a program whose file gives nothing to who executes it.
func programHead(path string) ([]byte, error) {
	f, err := OpenRegular(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Mode()&(os.ModeSetuid|os.ModeSetgid) != 0 {
		return nil, fmt.Errorf("%s has a set-id bit", path)
	}
	_, err = unix.Fgetxattr(int(f.Fd()), "security.capability", nil)
	if err == nil {
		return nil, fmt.Errorf("%s has file capabilities", path)
	}
	if !errors.Is(err, unix.ENODATA) && !errors.Is(err, unix.EOPNOTSUPP) {
		return nil, fmt.Errorf("capabilities of %s: %w", path, err)
	}
	head := make([]byte, headLength)
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, err
	}
	return head[:n], nil
}

// checkELF refuses what is no 64-bit program of this architecture: others are executed by an
// interpreter that the system has for them (binfmt_misc), whose rights nobody has looked at.
func checkELF(head []byte) error {
	const class, machine = 4, 18 // elf(5): e_ident[EI_CLASS], e_machine
	if len(head) < machine+2 || !bytes.HasPrefix(head, []byte("\x7fELF")) {
		return errors.New("it is no ELF program")
	}
	if head[class] != 2 || binary.LittleEndian.Uint16(head[machine:]) != machineAMD64 {
		return errors.New("it is a program of another architecture")
	}
	return nil
}
