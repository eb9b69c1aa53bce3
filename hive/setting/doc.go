// Package setting reads what the tags of a struct say about the settings in it, so that a
// setting is said once: as a field.
//
//	key      its key in the configuration file, with dots for the sections it is in
//	default  what a zero value becomes, as it is written in the file
//	min      the least value
//	zero     what 0 means: min does not refuse it, and default does not replace it
//	oneof    the words that it takes; empty is taken, too, and means the default
//	want     what was expected, for a message about a text that cannot be read
//	hint     what a message about a value below min says besides
//
// Model: a field with a key that is a struct is a section, and the keys of its fields are
// below its own. An embedded struct is none: its fields count as those of the struct it is
// in. A field with neither key nor default is passed over. An int64 is a number of bytes.
//
// Caveats: a default that its field cannot hold is a mistake of the program's, which panics.
package setting
