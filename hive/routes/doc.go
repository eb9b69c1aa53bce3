// Package routes says which model is served by which workers, and what a gateway has to know to
// send requests to them and to nobody else.
//
// A route is a name of a model, with the workers behind it. Which names lead to a worker follows
// from its record and its type, as of now: nothing of it is stored. A worker that is ready is a
// replica, with the proof of its listeners, which is made once for each of its starts, and anew when
// a gateway has found others.
//
// It reads the supervisor's snapshots and the catalog, and changes nothing.
package routes
