package store

import "errors"

// Finding is one thing that is wrong with a state file.
type Finding struct {
	Bucket string `json:"bucket"` // empty: the structure of the file
	Key    string `json:"key"`    // the record: a port, a number, an id; empty: it is not one record
	Reason string `json:"reason"`
}

// String is the finding in one line.
func (f Finding) String() string {
	where := f.Bucket
	if where == "" {
		where = "structure"
	}
	if f.Key != "" {
		where += " " + f.Key
	}
	return where + ": " + f.Reason
}

// Findings splits the error of Check, or that of Open if it says that the file is damaged,
// into findings. What is no finding is returned as rest.
func Findings(err error) (list []Finding, rest error) {
	if err == nil {
		return nil, nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, one := range joined.Unwrap() {
			more, other := Findings(one)
			list, rest = append(list, more...), errors.Join(rest, other)
		}
		return list, rest
	}
	var corrupt *CorruptError
	var torn *InconsistentError
	switch {
	case errors.As(err, &corrupt):
		return []Finding{{corrupt.Bucket, corrupt.Key, corrupt.Reason}}, nil
	case errors.As(err, &torn):
		return []Finding{{torn.Bucket, torn.Key, torn.Reason}}, nil
	}
	return nil, err
}
