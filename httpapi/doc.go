// Package httpapi serves a hive over HTTP.
//
// # Model
//
// A [Server] is made once, and its listener may open before the hive does: until
// [Server.SetHive] has been called, and after that until recovery is done, every
// route answers 503 with the progress, so that a client can tell "coming back"
// from "gone". Requests pass, from the outside in: request id, log and panic
// guard, who calls and whether they may do anything (auth.go), the body's size, the
// recovery gate, the router, what the route needs (routes.go).
//
// Who calls is found out once for each connection, when it is accepted (peer.go): the
// user of the other end's socket. A request may have a token instead. What they may do
// is package access's to say.
//
// The API is written down in openapi.yaml, and code follows it: the shapes and
// parameters of httpapi/wire, [ServerInterface] with the reading of parameters
// (server.gen.go), and the requests of httpapi/client are generated from it (make
// generate; httpapi/internal/prepare says what is left out). api.go binds each
// operation to its handler. A new route is a new path there, and does not compile
// without a handler; tests hold every answer against the document (test/contract).
//
// Handlers translate and nothing else: they decode, call the hive, and map the
// records of package store and the findings of the hive to the shapes of httpapi/wire
// (shapes.go, types_shapes.go and hive_shapes.go, which know no Server). An error travels
// as a return value to one table (errors.go) that knows its status and its stable code.
//
// No file uses another that uses it, directly or around corners. What needs no Server is
// at the bottom: requests (request.go), answers (respond.go), the table of errors, what is
// noted of a request on its way (recorder.go), connections and peers, sessions, shapes,
// streams (stream.go, rbee_text.go), the documentation. Above is what a Server has
// (server.go), then who calls (auth.go, browser.go) and what is answered, one file for each
// resource. At the top they are bound together: operations (api.go), routes, middleware,
// and how all that is served (serve.go).
//
// A job's story can be followed in two forms. /stream is for rbee's clients, which
// read lines and know no SSE framing (rbee.go). /events is a real event stream
// with ids, resumable (events.go).
//
// # Guarantees
//
//   - A request body is at most 1 MiB; header, body and idle times are bounded, and
//     so is the number of connections of each listener. Those of callers without rights
//     go first (connections.go).
//   - A token is in no answer but the one that makes it, and in no log line or error.
//   - A route that nobody has thought of is for admins.
//   - A client that reads a stream too slowly is dropped, it holds up nobody else.
//   - An error that is not in the table is a 500 that carries the request id and
//     nothing of the cause; the cause is in the log under the same id.
//   - Each request is one line of the log when it has ended, and nothing of its
//     query, headers or body is in it. What callers send makes no metric series.
//   - [Server.Shutdown] closes the listeners first, ends every stream, and then
//     waits for what remains.
//
// # Caveats
//
//   - Over TCP the process of a caller is not known, only its user. A client that has
//     closed its side of the connection when it is accepted is nobody.
//   - A connection that is driven out as idle may have sent a request that has not
//     been read yet. Clients see it closed without an answer, as with every idle one.
//   - An rbee stream ends after the stream wait (Options.StreamWait) even if its job goes on, because
//     rbee's keeper gives up after 30 s. Programs should use /events.
//   - A followed log is looked at every 250 ms; it is not a notification. It is
//     followed over rotations, which only the hive that reads it knows about: a
//     log that somebody else cuts is read on from its new beginning.
package httpapi
