package hive

// DecodeOperation is for fuzzing: decoding without a hive.
var DecodeOperation = decodeOperation
