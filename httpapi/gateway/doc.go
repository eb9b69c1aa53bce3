// Package gateway is the one address for every model: it takes requests, finds by the name of the
// model which worker serves it, and passes the request to that worker and to nobody else.
//
// # Model
//
// A [Gateway] keeps the table of routes that hive gives it (GET /v1/routes), and takes it anew after
// each event of hive's. While hive is away it goes on with the table that it has. It holds nothing that
// matters: no file, no record.
//
// # Guarantees
//   - A request goes over connections only whose other end is proven to be the worker's: before and after
//     connecting, the sockets that listen at the dialled address must be among those that hive has proven, by
//     their cookies, and the other end of the connection must have been made in their cgroup. Nothing is
//     sent before. What does not fit is given to hive to prove again; while hive is away it is an error.
//   - A request that was not written is tried on another replica. One that was written, and of whose
//     answer nothing has come, is tried once more, unless the worker died with it alone. After the first byte
//     of an answer never.
//   - An answer that ends in the middle is an error inside the stream, or a connection that is cut, never
//     a clean end.
//   - The client's going away is passed on to the worker at once.
//
// # Caveats
//   - Where workers have no cgroup of their own, a process of the worker's own user that shares the port
//     by SO_REUSEPORT is taken for it if it listens only between the two looks.
//   - Keys are not there yet: a gateway listens on loopback only.
package gateway
