//go:build !nogate

package gate

// Waits is false only in a build with the tag nogate.
const Waits = true
