package hardware

import (
	"cmp"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"rbeehive/store/plain"
)

// vendorAMD is the PCI id.
const vendorAMD = "0x1002"

// amdDevices returns the GPUs of AMD by the number of their card, without ids. A card
// without memory of its own in /sys is one whose driver does not run models.
func amdDevices(root string) (devices []Device) {
	cards, _ := filepath.Glob(filepath.Join(root, "sys/class/drm/card*")) // the pattern is right
	numbers := map[string]int{}
	cards = slices.DeleteFunc(cards, func(path string) bool { // card0-DP-1 is a connector
		n, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(path), "card"))
		numbers[path] = n
		return err != nil
	})
	// By number: as names, card10 comes before card2.
	slices.SortFunc(cards, func(a, b string) int { return cmp.Compare(numbers[a], numbers[b]) })
	for _, path := range cards {
		dir := filepath.Join(path, "device")
		if readAttr(dir, "vendor") != vendorAMD {
			continue
		}
		size, err := strconv.ParseUint(readAttr(dir, "mem_info_vram_total"), 10, 64)
		if err != nil {
			continue
		}
		name := readAttr(dir, "product_name") // only boards that have it in their ROM
		if name == "" {
			name = "AMD GPU " + readAttr(dir, "device")
		}
		devices = append(devices, Device{Name: plain.Text(strings.TrimSpace(name)), Kind: GPU, MemoryMiB: size >> 20})
	}
	return devices
}

// readAttr returns the content of a small file; empty if it cannot be read.
func readAttr(dir, name string) string {
	raw, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(raw))
}
