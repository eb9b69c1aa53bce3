package models

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"path"
	"strings"
)

// checkFormat looks at the beginning of a file that its name says is a model: an error page,
// the pointer that git has in the place of a large file, or half a download is none. What
// has another name is not looked at. Errors: ErrFormat, and those of r.
func checkFormat(r io.ReaderAt, size int64, name string) error {
	check := map[string]func(head []byte, size int64) string{".gguf": notGGUF, ".safetensors": notSafetensors}[strings.ToLower(path.Ext(name))]
	if check == nil {
		return nil
	}
	head := make([]byte, 16)
	n, err := r.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if why := check(head[:n], size); why != "" {
		return fmt.Errorf("%w: %s begins with %q: %s", ErrFormat, clip(name), head[:n], why)
	}
	return nil
}

// notGGUF says why a file is none of GGUF: its magic and a version of 16 bits at most, in the
// byte order of the machine that it is for.
func notGGUF(head []byte, _ int64) string {
	const magic = "GGUF"
	if len(head) < len(magic)+4 || string(head[:len(magic)]) != magic {
		return "expected " + magic + " and a version"
	}
	version := binary.LittleEndian.Uint32(head[len(magic):])
	if version == 0 || min(version, bits.ReverseBytes32(version)) > 1<<16-1 {
		return fmt.Sprintf("%#x is no version of GGUF", version)
	}
	return ""
}

// notSafetensors says why a file is none of safetensors: the length of a JSON object, and
// that.
func notSafetensors(head []byte, size int64) string {
	if len(head) < 10 {
		return "expected the length of a header, and the header"
	}
	// 2 bytes are an empty object.
	switch length := binary.LittleEndian.Uint64(head); {
	case length < 2 || length > uint64(size-8): //nolint:gosec // size is that of a file which has these bytes
		return fmt.Sprintf("a header of %d bytes is not in a file of %d", length, size)
	case head[8] != '{':
		return "the header is not a JSON object"
	}
	return ""
}
