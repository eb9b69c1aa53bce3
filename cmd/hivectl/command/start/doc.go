// Package start has the commands that start workers, and those that show what can be
// started: up, restart, types and models. They are together because they share the
// operation worker_spawn (types explain shows what up does) and the download of a model.
//
// A start is followed until the worker is ready; Ctrl-C detaches and undoes nothing.
//
// It may use the hive through App.Hive, and check whether a file that --model names exists.
// The directory of models is written by package library alone, for models import.
package start
