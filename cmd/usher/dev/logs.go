package dev

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
)

// maxLog is the size beyond which a log is put aside at a start, in bytes.
const maxLog = 16 << 20

// openLog opens DIR/NAME.log to append to; one that has grown large becomes
// NAME.log.old first.
func openLog(dir, name string) (*slog.Logger, *os.File, error) {
	path := filepath.Join(dir, name+".log")
	if info, err := os.Stat(path); err == nil && info.Size() > maxLog {
		if err := os.Rename(path, path+".old"); err != nil {
			return nil, nil, fmt.Errorf("put the log aside: %w", err)
		}
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("open the log: %w", err)
	}
	return slog.New(slog.NewJSONHandler(f, &slog.HandlerOptions{Level: slog.LevelInfo})), f, nil
}
