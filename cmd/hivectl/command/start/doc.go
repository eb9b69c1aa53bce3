// Package start has the commands that start workers, and those that say what can be started:
// up, restart, types and models. They stand together because they share the operation
// worker_spawn (what up does types explain tells) and the download of a model.
//
// A start is followed until the worker is ready; Ctrl-C detaches and undoes nothing.
//
// It may use the hive through App.Hive, and look whether a file that --model names is there.
// The directory of models is written by package library alone, for models import.
package start
