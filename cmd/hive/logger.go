package main

import (
	"fmt"
	"io"
	"os"

	"github.com/sirupsen/logrus"

	"rbeehive/cmd/hive/config"
	"rbeehive/store/plain"
)

// newLogger makes the one logger of the process. On a terminal only warnings and errors are
// shown unless a level was set: the banner is for people, and is all they see of a start
// that went well.
func newLogger(cfg *config.Config, stderr io.Writer) (*logrus.Logger, error) {
	log := logrus.New()
	log.SetOutput(stderr)
	terminal := isTerminal(stderr)
	log.SetFormatter(plainMessage{&logrus.TextFormatter{FullTimestamp: true, DisableColors: !terminal}})
	if cfg.LogFormat == "json" {
		log.SetFormatter(&logrus.JSONFormatter{})
	}
	if err := setLevel(log, cfg); err != nil {
		return nil, err
	}
	return log, nil
}

// plainMessage makes messages plain text. On a terminal logrus writes them as they are;
// fields it quotes.
type plainMessage struct{ *logrus.TextFormatter }

// Format implements logrus.Formatter.
func (f plainMessage) Format(e *logrus.Entry) ([]byte, error) {
	e.Message = plain.Text(e.Message)
	return f.TextFormatter.Format(e)
}

// setLevel gives the logger the level of a configuration, which a reload changes.
func setLevel(log *logrus.Logger, cfg *config.Config) error {
	name := cfg.LogLevel
	if name == "" {
		name = "info"
	}
	// The banner says how the start went, and lines beside it would only hide that.
	if cfg.LogLevel == "" && isTerminal(log.Out) {
		name = "warn"
	}
	level, err := logrus.ParseLevel(name)
	if err != nil {
		return fmt.Errorf("set the log level: %w", err)
	}
	log.SetLevel(level)
	return nil
}

// isTerminal takes every character device for a terminal; for /dev/null, which is one too,
// the result does not matter.
func isTerminal(w io.Writer) bool {
	if o, ok := w.(*output); ok {
		w = o.to
	}
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
