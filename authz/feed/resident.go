package feed

import (
	"context"
	"errors"
	"time"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/policies"
)

// resident receives the whole platform into a [Sink].
type resident struct {
	sink    Sink
	builder *authz.Builder
	// stuck: the sink did not take a change that followed. To be sent it again would
	// not help, a snapshot does.
	stuck bool
}

var _ receiver = (*resident)(nil)

func (r *resident) mode() Mode { return ModeResident }

func (r *resident) position() (Position, bool) {
	p, ok := r.floor()
	return p, ok && !r.stuck
}

func (r *resident) floor() (Position, bool) {
	s := r.sink.State()
	if s == nil {
		return Position{}, false
	}
	return Position{Platform: s.Platform(), Revision: s.Revision(), Hash: s.Hash()}, true
}

func (r *resident) begin(s *Snapshot) error {
	r.builder = authz.NewBuilder(authz.Header{Platform: s.Platform, Revision: s.Revision, Hash: s.Hash})
	if old := r.sink.State(); old != nil {
		r.builder.Reuse(old.Policy())
	}
	return nil
}

func (r *resident) add(o policies.Object) error { return r.builder.Add(o) }

func (r *resident) finish(ctx context.Context) error {
	state, err := r.builder.Build(ctx)
	r.builder = nil
	if err != nil {
		return err
	}
	if err := r.sink.Reset(state); err != nil {
		return err
	}
	r.stuck = false
	return nil
}

func (r *resident) drop() { r.builder = nil }

func (r *resident) change(ctx context.Context, c policies.Change) error {
	err := r.sink.Apply(ctx, c)
	r.stuck = err != nil
	return err
}

func (r *resident) notice(*Notice) error { return errors.New("a resident client takes no notices") }

func (r *resident) observe(t time.Time) { r.sink.Observe(t) }
