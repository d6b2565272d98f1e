package disk

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/authz/feed"
	"github.com/usher-authz/usher/policies/signing"
)

const (
	snapshotFile  = "snapshot.zst"
	confirmedFile = "confirmed.json"

	// macID stands in the place of a key's id at the end of the file.
	macID = "token"
	// purpose separates the key from others that the token may be made into.
	purpose = "usher sidecar snapshot 1"

	batchBytes = 64 << 10
	maxWindow  = 8 << 20
)

// Key derives the key that authenticates the files of a sidecar with this service
// token.
func Key(token string) []byte {
	h := hmac.New(sha256.New, []byte(token))
	_, _ = h.Write([]byte(purpose)) // a hash takes everything
	return h.Sum(nil)
}

// mac is the HMAC of the end of a snapshot of platform.
func mac(key []byte, platform string, end *feed.SnapshotEnd) string {
	return macOf(key, fmt.Appendf(nil, "%q\n%d\n%s\n", platform, end.Count, end.Digest))
}

func macOf(key, text []byte) string {
	h := hmac.New(sha256.New, key)
	_, _ = h.Write(text) // a hash takes everything
	return hex.EncodeToString(h.Sum(nil))
}

// writeSnapshot writes s into dir, at ease or at once.
func writeSnapshot(ctx context.Context, dir string, key []byte, s *authz.State, now time.Time, atEase bool) error {
	return replace(filepath.Join(dir, snapshotFile), func(w io.Writer) error {
		z, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithLowerEncoderMem(true))
		if err != nil {
			return fmt.Errorf("begin to compress: %w", err)
		}
		var lines io.Writer = z
		if atEase {
			lines = &eased{ctx: ctx, w: z, since: time.Now()}
		}
		if err := writeState(ctx, lines, key, s, now); err != nil {
			_ = z.Close() // the file is given up
			return err
		}
		return z.Close()
	})
}

// rest is how many times as long as it works a snapshot rests, after each batch of a
// millisecond or two: the seconds of processor time that a large platform takes are not
// worth that a check or a change waits for them.
const rest = 7

// eased rests after each write, for the time since the last one.
type eased struct {
	ctx   context.Context //nolint:containedctx // of the snapshot that it writes
	w     io.Writer
	since time.Time
}

// Write implements io.Writer.
func (e *eased) Write(p []byte) (int, error) {
	n, err := e.w.Write(p)
	if err != nil {
		return n, err
	}
	pause := time.NewTimer(rest * time.Since(e.since))
	defer pause.Stop()
	select {
	case <-pause.C:
	case <-e.ctx.Done():
		return n, e.ctx.Err()
	}
	e.since = time.Now()
	return n, nil
}

// writeState writes s as the frames of a snapshot.
func writeState(ctx context.Context, w io.Writer, key []byte, s *authz.State, now time.Time) error {
	at := s.Header()
	batch, err := feed.AppendFrame(nil, &feed.Snapshot{Platform: at.Platform, Revision: at.Revision, Hash: at.Hash, Time: now.UTC()})
	if err != nil {
		return err
	}
	tally := feed.NewTally(batch)
	batch = append(batch, '\n')
	var frame feed.Object // one for all
	for o, err := range s.Objects() {
		if err != nil {
			return fmt.Errorf("take revision %d: %w", at.Revision, err)
		}
		start := len(batch)
		frame.Object = o
		if batch, err = feed.AppendFrame(batch, &frame); err != nil {
			return err
		}
		tally.Object(batch[start:])
		if batch = append(batch, '\n'); len(batch) < batchBytes {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, err := w.Write(batch); err != nil {
			return err
		}
		batch = batch[:0]
	}
	end := tally.End()
	end.Signatures = signing.Signatures{macID: mac(key, at.Platform, end)}
	if batch, err = feed.AppendFrame(batch, end); err != nil {
		return err
	}
	_, err = w.Write(append(batch, '\n'))
	return err
}

// readSnapshot reads the state in dir. Nothing of it is used before all of it is
// verified. The error wraps fs.ErrNotExist if there is none.
func readSnapshot(ctx context.Context, dir string, key []byte) (*authz.State, error) {
	f, err := os.Open(filepath.Join(dir, snapshotFile))
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	z, err := zstd.NewReader(f, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderLowmem(true))
	if err != nil {
		return nil, fmt.Errorf("begin to decompress: %w", err)
	}
	defer z.Close()
	in := feed.NewReader(z)
	first, err := in.Next()
	if err != nil {
		return nil, spoilt(err)
	}
	header, ok := first.(*feed.Snapshot)
	if !ok {
		return nil, spoilt(errors.New("it does not begin with a snapshot"))
	}
	tally := feed.NewTally(in.Line())
	builder := authz.NewBuilder(authz.Header{Platform: header.Platform, Revision: header.Revision, Hash: header.Hash})
	for {
		next, err := in.Next()
		if err != nil {
			return nil, spoilt(err)
		}
		switch next := next.(type) {
		case *feed.Object:
			tally.Object(in.Line())
			if err := builder.Add(next.Object); err != nil {
				return nil, spoilt(err)
			}
		case *feed.SnapshotEnd:
			if err := genuine(key, header, tally.End(), next); err != nil {
				return nil, err
			}
			if _, err := in.Next(); !errors.Is(err, io.EOF) {
				return nil, spoilt(errors.New("there is more after its end"))
			}
			return builder.Build(ctx)
		default:
			return nil, spoilt(fmt.Errorf("a frame of type %s is out of place", next.Type()))
		}
	}
}

// spoilt says what a file is that is not as a sidecar wrote it, before its digest tells:
// its lines are read first, and it may be altered in a way that no line survives.
func spoilt(err error) error {
	var disk *fs.PathError
	var refused *feed.RefusedError
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("it is cut short")
	case errors.As(err, &disk):
		return err
	case errors.As(err, &refused):
		err = refused.Err // what a server would be told has another word for it
	}
	return fmt.Errorf("it was altered or damaged: %w", err)
}

// genuine tells whether the end is that of what was read, by the holder of the key.
func genuine(key []byte, header *feed.Snapshot, got, end *feed.SnapshotEnd) error {
	if got.Count != end.Count || got.Digest != end.Digest {
		return spoilt(errors.New("its digest is not that of its lines"))
	}
	if !hmac.Equal([]byte(mac(key, header.Platform, got)), []byte(end.Signatures[macID])) {
		return errors.New("it was not written by a sidecar with this token")
	}
	return nil
}

// writeConfirmed keeps a heartbeat.
func writeConfirmed(dir string, key []byte, h *feed.Heartbeat) error {
	line, err := feed.AppendFrame(nil, h)
	if err != nil {
		return err
	}
	return replace(filepath.Join(dir, confirmedFile), func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%s\n%s\n", line, macOf(key, line))
		return err
	})
}

// readConfirmed gives the heartbeat that confirms at, verified. The error wraps
// fs.ErrNotExist if there is none.
func readConfirmed(dir string, key []byte, at authz.Header, v *signing.Verifier) (*feed.Heartbeat, error) {
	f, err := os.Open(filepath.Join(dir, confirmedFile))
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	data, err := io.ReadAll(io.LimitReader(f, feed.MaxLine+2*sha256.BlockSize+2))
	if err != nil {
		return nil, err
	}
	line, sum, _ := bytes.Cut(data, []byte{'\n'})
	if !hmac.Equal([]byte(macOf(key, line)), bytes.TrimSuffix(sum, []byte{'\n'})) {
		return nil, errors.New("it was not written by a sidecar with this token, or was altered")
	}
	next, err := feed.NewReader(bytes.NewReader(data)).Next()
	if err != nil {
		return nil, spoilt(err)
	}
	h, ok := next.(*feed.Heartbeat)
	if !ok {
		return nil, errors.New("it has no heartbeat")
	}
	if err := h.Verify(v); err != nil {
		return nil, err
	}
	if !names(h, at) && (h.Platform != at.Platform || h.Revision >= at.Revision) {
		return nil, fmt.Errorf("it confirms revision %d, and the snapshot is of revision %d", h.Revision, at.Revision)
	}
	return h, nil
}

// replace writes path anew: the old file or the new one is there, whatever happens.
func replace(path string, write func(io.Writer) error) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // gone already after the rename
	err = write(f)
	if err == nil {
		err = f.Sync()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
