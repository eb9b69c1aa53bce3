package models

// Escape and Unescape are the names of directories.
var (
	Escape   = escape
	Unescape = unescape
)
