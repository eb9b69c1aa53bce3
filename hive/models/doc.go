// Package models keeps the models of a hive on disk and gets them from a hub that
// speaks the protocol of the Hugging Face hub.
//
// # Layout
//
//	<dir>/<escaped id>/metadata.json     what the model is, and its hashes
//	<dir>/<escaped id>/...               its files, as they are named in the repository
//	<dir>/.partial/<escaped id>/*.part   what has come of a download
//	<dir>/.partial/<escaped id>/tree/    a model that is being put together
//	<dir>/.deleted/                      on its way out
//
// A model is its directory: nothing about it is kept elsewhere, and a directory
// that somebody removes is a model that is gone. All access goes through an
// os.Root, so that no name, whether from a caller, the hub or the disk, leads out
// of dir.
//
// # Guarantees
//
// A model is in the catalog with all its files, whole, verified and on the disk, or
// it is not there: it is put together beside the catalog and renamed into it. A
// file of the hub's large file storage is verified by its SHA-256, any other by its
// git hash.
//
// A download that was cut, cancelled or killed is resumed where it was: a partial file is
// named by the hash that it is to have, so it can be continued by whatever download wants
// that content, and by no other.
//
// The hub's token goes to the hub's own scheme, host and port, and to nobody else.
//
// # Caveats
//
// One hive has a directory to itself: another's workers do not keep a model from being
// deleted. Only downloads are kept apart, on Linux. On a file system that does not tell upper
// from lower case, the second of two ids that differ only in case is refused. A
// model in the catalog is not read again: damage to the content of its files, other
// than their size, is not noticed.
package models
