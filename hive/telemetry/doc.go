// Package telemetry measures what workers use, while somebody listens: one sample for all
// listeners, about every second. It reads /proc and asks the driver of the GPUs, and
// touches nothing.
package telemetry
