package hive

// Generated.
type Hives struct{ JobsKeep int }
