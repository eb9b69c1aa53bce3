// Package reference is the reference worker: a small real server that takes a
// port, answers /health, lists one model and echoes completions in OpenAI's
// shape. It is what the built-in worker type cpu runs (`hive worker`), for
// trying hive out without a GPU or a model file, and for tests.
//
// Model: one process, one listener, no state. SIGTERM and SIGINT let running
// requests end and exit 0, as an inference server should.
//
// Its answers name the worker in the header X-Worker-Id, so that tests can tell
// who answers on a port.
//
// Besides that it can misbehave on purpose, each fault behind its own flag
// (see Main): load slowly, exit early, listen on another port or on none,
// never be healthy, ignore SIGTERM. These are what hive must handle in real
// programs, so tests meet them in a real process.
//
// Guarantees: it needs little memory (the garbage collector is set for a small
// heap, one running goroutine at a time), because the tests of a full port
// range run 1,920 of them on one machine.
//
// Caveats: it infers nothing. A token is a word.
package reference
