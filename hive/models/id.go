package models

import (
	"fmt"
	"path"
	"regexp"
	"strings"

	"rbeehive/store/plain"
)

// ID is the name of a model: a repository of the hub and, perhaps, a file in it.
type ID struct {
	Repo string // org/name
	File string // path of a file in it, with slashes; empty: what Download chooses
}

func (id ID) String() string {
	if id.File == "" {
		return id.Repo
	}
	return id.Repo + ":" + id.File
}

// name is what a person calls the model.
func (id ID) name() string {
	if id.File != "" {
		return path.Base(id.File)
	}
	return path.Base(id.Repo)
}

// repoRE is what the hub allows, and nothing that a path or a flag could be.
var repoRE = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,95}/[A-Za-z0-9_][A-Za-z0-9._-]{0,95}$`)

// maxName is what a directory entry can hold (NAME_MAX).
const maxName = 255

// ParseID reads org/name or org/name:path/to/file. Errors: ErrInvalidID, with what
// was expected.
func ParseID(text string) (ID, error) {
	invalid := func(format string, args ...any) (ID, error) {
		return ID{}, fmt.Errorf("%w: %s", ErrInvalidID, fmt.Sprintf(format, args...))
	}
	repo, file, named := strings.Cut(text, ":")
	switch {
	case text == "":
		return invalid("it is empty; expected org/name or org/name:file.gguf")
	// It becomes part of a URL, and of a directory's name.
	case !repoRE.MatchString(repo) || strings.Contains(repo, ".."):
		return invalid("%q; expected org/name or org/name:file.gguf", clip(text))
	case named && file == "":
		return invalid("%q names no file after the ':'", clip(text))
	}
	if named && !validFile(file) {
		return invalid("%q; after the ':' the path of a file in the repository is expected, without '.' or '..' in it", clip(text))
	}
	// Escaped, some bytes become three.
	if id := (ID{repo, file}); len(escape(id.String())) <= maxName {
		return id, nil
	}
	return invalid("%q is too long: %d bytes of a file name are all there is", clip(text), maxName)
}

// validFile reports whether a path of a repository can be one here.
func validFile(name string) bool {
	// The hub names the files, and a name must not lead out of the directory.
	if plain.Flaw(name) != "" || strings.Contains(name, `\`) || len(name) > 1024 {
		return false
	}
	for element := range strings.SplitSeq(name, "/") {
		if element == "" || element == "." || element == ".." || len(element) > maxName {
			return false
		}
	}
	return true
}

// plainByte reports whether a byte stands for itself in a directory's name.
func plainByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '.' || c == '_' || c == '-'
}

// escape makes a name of a directory of any text: each other byte, and a dot at the
// beginning, is %XX. No two texts have the same name, and none is hidden or special.
func escape(text string) string {
	var b strings.Builder
	for i := range len(text) {
		if c := text[i]; plainByte(c) && (i > 0 || c != '.') {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// unescape is the text of a name that escape made. ok is false for any other name.
func unescape(name string) (text string, ok bool) {
	var b strings.Builder
	for i := 0; i < len(name); i++ {
		if name[i] != '%' {
			b.WriteByte(name[i])
			continue
		}
		var c byte
		if i+2 >= len(name) {
			return "", false
		}
		if _, err := fmt.Sscanf(name[i+1:i+3], "%02X", &c); err != nil {
			return "", false
		}
		b.WriteByte(c)
		i += 2
	}
	text = b.String()
	// Only what escape makes: another spelling would be a second directory for one model.
	return text, text != "" && escape(text) == name
}

// clip shortens what came from outside before it goes into a message, as plain text.
func clip(s string) string { return plain.Clip(s, 120) }
