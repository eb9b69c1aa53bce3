// Package tokens keeps the tokens by which a caller who has no user on this machine is
// recognised: what each may do, how long, and only a hash of its secret.
package tokens
