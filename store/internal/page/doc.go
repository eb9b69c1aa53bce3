// Package page reads bbolt's file format without bbolt, which trusts every number in it:
// some damage (a page that is its own child, a huge count) ends the process there in a way
// that cannot be caught.
//
// Examine says whether bbolt can read a file safely. Walker reads what can be read of a
// file that it cannot. Both terminate whatever is in the file, need it not to be written
// meanwhile, and change nothing.
package page
