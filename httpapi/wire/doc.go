// Package wire holds the JSON shapes of the API and the parameters of its requests,
// shared by the server and the client. They are generated from httpapi/openapi.yaml
// (make generate), but for the types whose form on the wire Go's own do not have: a
// [Time], and parameters that say what they expect.
package wire
