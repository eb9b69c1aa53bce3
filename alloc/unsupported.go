//go:build !linux

package alloc

import "net/netip"

func claimName(uint16) string { return "" }

func takeClaim(uint16) (int, error) { return -1, ErrUnsupported }

func dropClaim(int) {}

func inUse(error) bool { return false }

func notPermitted(error) bool { return false }

func whyForbidden(uint16) string { return "" }

func tryBind(uint16, []netip.Addr, netip.Addr, bool) (bool, error) { return false, ErrUnsupported }
