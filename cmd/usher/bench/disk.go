package bench

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// Disk is a start of a sidecar from its snapshot, the admin server not there, beside
// reading and hashing the snapshot's file, in seconds.
type Disk struct {
	Seconds float64 `json:"seconds"`
	OfFloor float64 `json:"of_floor"`
	Bytes   int64   `json:"bytes"`
	// Processor is the processor time that the process took; 0 where it cannot be read.
	Processor float64 `json:"processor_seconds"`
}

// unreachable is where no admin server is.
const unreachable = "http://127.0.0.1:1"

// startFromDisk stops a sidecar that keeps its snapshot, and starts another from it.
func (b *bench) startFromDisk(ctx context.Context, first *child) error {
	dir := b.kept()
	if err := awaitFiles(ctx, dir, "snapshot.zst", "confirmed.json"); err != nil {
		return err
	}
	if err := first.end(); err != nil {
		return err
	}
	began := time.Now()
	file, err := os.Open(filepath.Join(dir, "snapshot.zst"))
	if err != nil {
		return fmt.Errorf("read the snapshot: %w", err)
	}
	size, err := io.Copy(sha256.New(), file)
	if err = errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("read the snapshot: %w", err)
	}
	floor := time.Since(began)
	again, err := b.sidecar(ctx, "--dir", dir, "--admin-url", unreachable)
	if err != nil {
		return err
	}
	if _, err := b.ask(ctx, again, 0); err != nil {
		return err
	}
	b.report.Disk = Disk{Seconds: again.took.Seconds(), OfFloor: again.took.Seconds() / floor.Seconds(), Bytes: size}
	if took, err := again.processorTime(); err == nil {
		b.report.Disk.Processor = took.Seconds()
	}
	return nil
}

// awaitFiles waits until all are in dir.
func awaitFiles(ctx context.Context, dir string, names ...string) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	ticker := time.NewTicker(startInterval)
	defer ticker.Stop()
	for _, name := range names {
		for {
			_, err := os.Stat(filepath.Join(dir, name))
			if err == nil {
				break
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("the sidecar writes no snapshot: %w", errors.Join(err, ctx.Err()))
			case <-ticker.C:
			}
		}
	}
	return nil
}
