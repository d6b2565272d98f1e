package bundles

import (
	"context"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/policies"
)

// Source is where the platform's data come from. Its methods may be called from
// any number of goroutines.
type Source interface {
	// State is the platform at one revision, the latest that this server has; nil
	// before the first.
	State() policies.PlatformData
	// WaitFor returns once State is of revision rev or a later one, or when ctx
	// ends, with its error.
	WaitFor(ctx context.Context, rev policies.Revision) error
	// Head is the revision that the platform has reached: no write that was
	// acknowledged before the call is later, whichever server acknowledged it.
	Head(ctx context.Context) (policies.Revision, error)
}

// EngineSource is the engine of an admin server as a [Source]. head asks the
// database; see [Source].
func EngineSource(e *authz.Engine, head func(context.Context) (policies.Revision, error)) Source {
	return engineSource{e, head}
}

type engineSource struct {
	engine *authz.Engine
	head   func(context.Context) (policies.Revision, error)
}

// State implements [Source].
func (s engineSource) State() policies.PlatformData {
	if state := s.engine.State(); state != nil {
		return state.PlatformData()
	}
	return nil
}

// WaitFor implements [Source].
func (s engineSource) WaitFor(ctx context.Context, rev policies.Revision) error {
	return s.engine.WaitFor(ctx, rev)
}

// Head implements [Source].
func (s engineSource) Head(ctx context.Context) (policies.Revision, error) { return s.head(ctx) }
