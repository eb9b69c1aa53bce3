package store

type Worker struct{ State string }
