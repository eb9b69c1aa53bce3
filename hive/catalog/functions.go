package catalog

import (
	"os"
	"path"
	"regexp"
	"strings"
	"text/template"
)

// functions are what templates have besides text/template's own. None of them
// looks at files: what a command is does not depend on what happens to exist.
func functions() template.FuncMap {
	return template.FuncMap{
		"base":      path.Base,                                                     // last element of a path
		"dir":       func(s string) string { return path.Dir(path.Clean(s)) },      // all but the last element
		"contains":  strings.Contains,                                              // contains TEXT PART
		"hasPrefix": strings.HasPrefix,                                             // hasPrefix TEXT PREFIX
		"hasSuffix": strings.HasSuffix,                                             // hasSuffix TEXT SUFFIX
		"tempDir":   func() string { return strings.TrimRight(os.TempDir(), "/") }, // $TMPDIR of hive, else /tmp
		"hubRepo":   hubRepo,
		"hubFile":   hubFile,
	}
}

// hubRE is a model on the Hugging Face hub: user/repo, user/repo:quant or
// user/repo:file.gguf. A path begins with '/' or '.', has more elements, or ends
// in .gguf without a ':'. No part begins with '-', which would be a flag, or with '.',
// which could be "..".
var hubRE = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9_][A-Za-z0-9._-]*(:[A-Za-z0-9_][A-Za-z0-9._-]*)?$`)

// modelNameRE is a model of the hub, or one word, perhaps with a tag.
var modelNameRE = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)?(:[A-Za-z0-9_][A-Za-z0-9._-]*)?$`)

// ModelName reads a model that is written as a name (qwen, org/name, org/name:tag)
// and not as a path, a URL or anything else. A program may take even that for a path
// relative to its working directory, if there is something called first: the first
// part of the name, or all of it. ok is false if the model is not written so.
func ModelName(model string) (first string, ok bool) {
	if !modelNameRE.MatchString(model) {
		return "", false
	}
	first, _, _ = strings.Cut(model, "/")
	return first, true
}

// hubRepo is the repository of a model on the hub, with its quant if one is
// named; empty for a file.
func hubRepo(model string) string {
	repo, tag, tagged := strings.Cut(model, ":")
	// dir/model.gguf looks like user/repo and is a file.
	if !hubRE.MatchString(model) || !tagged && isGGUF(repo) {
		return ""
	}
	if isGGUF(tag) {
		return repo
	}
	return model
}

// hubFile is the file that a model on the hub names; empty if it names none.
func hubFile(model string) string {
	_, tag, _ := strings.Cut(model, ":")
	if hubRepo(model) == "" || !isGGUF(tag) {
		return ""
	}
	return tag
}

func isGGUF(name string) bool { return strings.HasSuffix(strings.ToLower(name), ".gguf") }
