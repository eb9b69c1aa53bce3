// Package tokens keeps the tokens by which a caller who has no user on this machine is
// recognised: what each may do, how long, and only a hash of its secret. A change is
// durable and counts when the method returns; whoever asks for rights reads memory and
// does not block.
//
// It may touch the records of tokens, through the journal. The token in the data directory
// is not among them. All methods are safe for concurrent use.
package tokens
