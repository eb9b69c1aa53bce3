// Package catalog knows the worker types: the named ways to start a worker.
//
// A type comes from an entry of the configuration or is built in. Built in are
// cpu, the reference worker, and cuda and metal, which only say that no worker
// program is configured for them; an entry of the same name replaces each.
//
// A type's command is a list of arguments, each of them a text/template. There
// is no shell anywhere: what a caller gives as a model or a parameter is part
// of one argument and can never become another command. An argument that
// renders empty is left out, so that "{{if .Device}}--device={{.Device}}{{end}}"
// does what it looks like.
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
// Caveats: a program is not looked up here; one that does not exist is found
// at the spawn. The sample execution takes one path through a template's
// conditions, so a mistake in the other branch is found only when it is taken.
package catalog
