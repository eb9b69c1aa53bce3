package doctor_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/alloc"
	"rbeehive/hive/doctor"
)

// A set is written as the kernel reads it: ranges in order, what touches is joined.
func TestPortSet(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		want   string
		ranges []alloc.Range
	}{
		{"", nil},
		{"", []alloc.Range{{}}}, // no range
		{"80", []alloc.Range{{First: 80, Last: 80}}},
		{"1,65535", []alloc.Range{{First: 65535, Last: 65535}, {First: 1, Last: 1}}},
		{"1-65535", []alloc.Range{{First: 1, Last: 65535}}},
		{"10-30", []alloc.Range{{First: 10, Last: 20}, {First: 21, Last: 30}}},
		{"10-30,40-41", []alloc.Range{{First: 15, Last: 30}, {First: 40, Last: 41}, {First: 10, Last: 20}}},
	} {
		require.Equal(t, c.want, doctor.PortSetOf(c.ranges...), "%v", c.ranges)
	}
}
