// Package catalog knows the worker types: the named ways to start a worker.
//
// A type comes from an entry of the configuration, is a preset, or is built in. A
// preset is what is known about one program: its command, its readiness probe, how
// it is stopped, its environment, how it tells its version. Each is a type of its
// own name, and an entry may build on one and change the rest. Built in are cpu,
// the reference worker, and cuda and metal, which only say that no worker program
// is configured for them. An entry of the same name replaces each of these.
//
// The device of a spawn becomes variables that leave a program only that GPU, for types of
// a preset with a GPU program; other commands get it by {{.Device}}.
//
// A type's command is a list of arguments, each of them a text/template. There
// is no shell anywhere: what a caller gives as a model or a parameter is part
// of one argument and can never become another command. An argument that
// renders empty is left out, so that "{{if .Device}}--device={{.Device}}{{end}}"
// does what it looks like; one that was written empty stays. Besides text/template's
// own functions there are base, dir, contains, hasPrefix, hasSuffix, tempDir, hubRepo
// and hubFile.
//
// # What a caller chooses
//
// A parameter is fixed or free (Param). A fixed one is set by the entry alone: what is
// code, or a path. A free one takes what its pattern matches as a whole. An entry that
// says nothing but a default gets the preset's class, else the pattern of a word, or,
// if its default is no word, a fixed parameter. Presets whose program is an interpreter
// are not available before an entry names the script.
//
// No value becomes a flag. An argument that begins with '-' must do so by the text of
// its own template: each action that prints is instrumented, as html/template does it,
// to report when it prints at the beginning of an argument, and the argument is refused
// if it then begins with '-'. That holds whatever functions (base, dir, hubFile, slice),
// variables, conditions, loops and templates the value went through, because text and
// actions are all that writes. Exempt are actions that are a constant, or printf or
// print of one, which begins with '-'. An action that prints nothing counts: in
// "{{.Name}}-x" the '-' was not meant to be first. Nor is it enough to compare with the
// text at the beginning of the template, or to render a second time with other values,
// for which conditions would take other ways.
//
// An argument is bounded in length (MAX_ARG_STRLEN of Linux) and in the turns of its
// loops.
//
// Models are text of the caller's here. ModelName tells a name from a path; whether the
// caller may give a path is decided by who the caller is, in package hive.
//
// Guarantees: every template was parsed and executed once with sample values
// when the Catalog was made, so an unknown field or a parameter without a
// default is an error of the configuration and not of a spawn at night. A
// Catalog does not change after New; everything in it may be used concurrently
// and nothing in it blocks.
//
// No rendered command contains "rbee-hive": rbee's keeper, when it stops a
// hive, ends every process whose command line has that string in it, workers
// included. Render refuses such a command with a sentence.
//
// Plan says what a spawn would do, without the values of the entry's environment,
// which may be secrets.
//
// Caveats: a program is not looked up here; one that does not exist is found
// at the spawn. What a preset knows of a program was true of the versions that
// were looked at; an entry can override all of it, or give a command of its own. The
// sample execution takes one path through a template's conditions, so a mistake in the
// other branch is found only when it is taken. A pattern says what a value is and not
// what a program makes of it: an entry that gives a parameter the pattern .* has said
// that any value is harmless there.
package catalog
