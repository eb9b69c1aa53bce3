package catalog

import (
	"fmt"
	"regexp"
	"strings"
)

// deviceCPU is the device that means: no GPU.
const deviceCPU = "cpu"

// deviceRE is what the runtimes of both makers understand: numbers, or the
// names that nvidia-smi -L and rocminfo show.
var deviceRE = regexp.MustCompile(`^(cpu|\d+(,\d+)*|(GPU|MIG)-[A-Za-z0-9/-]+(,(GPU|MIG)-[A-Za-z0-9/-]+)*)$`)

// deviceWordRE is what a spawn can give a command that is told the device as it is:
// no flag, no absolute path, and nothing at which a list or a text of the command
// could end.
var deviceWordRE = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:,/-]*$`)

// CheckDevice reports whether a spawn could be made with that device: a *ValueError
// with ErrBadDevice. What a GPU's runtime does not understand it takes for "none",
// and the model would quietly run on the CPU. A type that is not of a GPU preset
// gives the device to its command as it is and takes any word, and whatever its
// entry says.
func (t *Type) CheckDevice(device string) error {
	expected := "numbers as in 0 or 0,1, names as in GPU-8f1c..., or cpu"
	ok := device == "" || deviceRE.MatchString(device)
	// The command gets the device as it is; what it means is the entry's business.
	if !t.pins {
		expected = "letters, digits and '.', '_', ':', ',', '/', '-', the first a letter or a digit, or what the entry says"
		ok = device == "" || device == t.Device || deviceWordRE.MatchString(device) && !strings.Contains(device, "..")
	}
	if ok {
		return nil
	}
	return &ValueError{Field: "device", Err: fmt.Errorf("%w %.80q of worker type %s: expected %s", ErrBadDevice, device, t.Name, expected)}
}

// pinned is the variables that leave a program only the devices named; none for
// the empty device.
//
// ROCR_VISIBLE_DEVICES is for no GPU only. ROCr filters before HIP does, and HIP
// counts among what is left: with both set to 1, nothing is. An empty list is
// the same on both levels, and only ROCr takes an empty list for none.
//
// HIP's list equals CUDA's, because vLLM ends on a machine of AMD when they
// differ. PCI_BUS_ID makes the numbers those of nvidia-smi; else the fastest
// GPU is 0.
func pinned(device string) []string {
	switch device {
	case "":
		return nil
	case deviceCPU:
		return []string{"CUDA_VISIBLE_DEVICES=", "HIP_VISIBLE_DEVICES=", "ROCR_VISIBLE_DEVICES="}
	}
	return []string{"CUDA_DEVICE_ORDER=PCI_BUS_ID", "CUDA_VISIBLE_DEVICES=" + device, "HIP_VISIBLE_DEVICES=" + device}
}

// Environ is what the type adds to the environment of a worker on a device: the
// preset's variables, those that pin the device, and the entry's (see Env),
// which come last and so win. The entry's values may be secrets: the list is for
// hive/proc only and must not be shown, logged or stored.
func (t *Type) Environ(device string) []string {
	list := append([]string{}, t.presetEnv...)
	if t.pins {
		list = append(list, pinned(device)...)
	}
	return append(list, t.env...)
}
