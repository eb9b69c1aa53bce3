package audit

// InBoth is who is found by both looks of a sweep.
var InBoth = inBoth
