// Package space decides whether the disk has room for a commit before it is made: bbolt
// finds out in the middle of one, which then has failed. It touches the blocks of the file
// that it is given, not its content or its length, and knows nothing of records.
package space
