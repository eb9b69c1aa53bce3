// Package config reads the daemon's configuration: flags over HIVE_* environment variables
// over one file over defaults.
//
// Model: Load finds the file, checks its keys against the ones this version knows (with
// line numbers, which viper has not), lets viper put the layers on top of each other,
// decodes each setting strictly into the field that is tagged with its key (package setting:
// key, default and bounds are said there and nowhere else), and checks every value. What it
// returns is complete: nothing in it has to be checked or defaulted again. Guarantees: an
// error is one line that says where it is (the file with the line and the key, the variable,
// or the flag), what it is and what was expected; Load finds all of them (Mistakes).
// A value is read as YAML 1.2 reads it, or refused where a person may mean otherwise.
// Nothing is ignored: a key or a HIVE_* variable that is not known is an error. A setting
// that is silently without effect is worse than a daemon that does not start. No file is
// read that anybody but root and hive's user can change (package trust): that is an error,
// too. Root's hive does not read the working directory.
//
// Caveats: keys are not case sensitive, because viper lowers them. Values of
// workers' env are read here and may be secrets: no error repeats them.
package config
