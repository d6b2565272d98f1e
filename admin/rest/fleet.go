package rest

import (
	"context"
	"net/http"
	"time"

	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/policies"
)

const tagFleet = "Sidecars"

// receiptWait is how long ?wait=applied waits at most.
const receiptWait = 10 * time.Second

type sidecarView struct {
	ID              string            `json:"id" doc:"Of the process: another one after each start."`
	Name            string            `json:"name"`
	Version         string            `json:"version,omitzero"`
	Mode            string            `json:"mode" doc:"resident or on-demand."`
	Revision        policies.Revision `json:"revision" doc:"That it has applied."`
	Age             *float64          `json:"age,omitempty" doc:"Seconds since its data was known to be the platform's; absent if it never was."`
	Address         string            `json:"address" doc:"Where its reports come from."`
	ChecksPerSecond float64           `json:"checks_per_second"`
}

func viewSidecar(s store.Sidecar) sidecarView {
	return sidecarView{
		ID: s.ID, Name: s.Name, Version: s.Version, Mode: s.Mode, Revision: s.Revision, Age: s.Age, Address: s.Address,
		ChecksPerSecond: s.ChecksPerSecond,
	}
}

type behindView struct {
	Sidecar  string            `json:"sidecar" doc:"Its name."`
	Revision policies.Revision `json:"revision" doc:"That it has applied."`
	Age      *float64          `json:"age,omitempty" doc:"Seconds since its data was known to be the platform's; absent if it never was."`
}

type appliedView struct {
	Connected int `json:"connected" doc:"Sidecars that reported within the last 10 seconds."`
	Applied   int `json:"applied" doc:"Of those, the ones that answer from this revision or a later one."`
}

type receiptView struct {
	Revision policies.Revision `json:"revision"`
	Time     time.Time         `json:"time" doc:"When it was committed."`
	Sidecars appliedView       `json:"sidecars"`
	Behind   []behindView      `json:"behind" doc:"The connected ones without it, the furthest behind first; 100 at most."`
}

func viewReceipt(r store.Receipt) receiptView {
	v := receiptView{Revision: r.Revision, Time: r.Time, Sidecars: appliedView{r.Connected, r.Applied}, Behind: make([]behindView, len(r.Behind))}
	for i, s := range r.Behind {
		v.Behind[i] = behindView{s.Name, s.Revision, s.Age}
	}
	return v
}

// waitFor is what a receipt is waited for.
type waitFor string

const waitApplied waitFor = "applied"

// receiptPath names a revision.
type receiptPath struct {
	Revision string  `path:"revision" doc:"The revision, as Usher-Revision names it." example:"1234"`
	Wait     waitFor `query:"wait" doc:"applied: answer once every connected sidecar has it, or after 10 seconds." example:"applied"`
}

func (a *API) fleetOperations() {
	register(a, spec{
		id: "get-revision", method: http.MethodGet, path: "/revisions/{revision}", tag: tagFleet, summary: "Show which sidecars have a revision",
		description: "The receipt of a write: with the revision that it was answered with, until no connected sidecar is behind.",
		scope:       policies.ScopeCollaboration, who: whoServices, errors: []int{http.StatusUnprocessableEntity},
	}, a.receipt)
	register(a, spec{
		id: "list-sidecars", method: http.MethodGet, path: "/sidecars", tag: tagFleet, summary: "List the connected sidecars",
		scope: policies.ScopeBundles, who: whoServices, errors: []int{http.StatusUnprocessableEntity},
	}, a.listSidecars)
}

func (a *API) receipt(ctx context.Context, _ *request, p *receiptPath, _ *none) (*shown[receiptView], error) {
	revision, err := policies.ParseRevision(p.Revision)
	if err != nil {
		return nil, &policies.NotFoundError{Kind: "revision", ID: printable(p.Revision)}
	}
	limit := time.Duration(0)
	switch p.Wait {
	case "":
	case waitApplied:
		limit = receiptWait
	default:
		return nil, invalid("wait", "must be applied")
	}
	found, err := a.store.AwaitApplied(ctx, revision, limit)
	if err != nil {
		return nil, err
	}
	return &shown[receiptView]{Body: viewReceipt(found)}, nil
}

func (a *API) listSidecars(ctx context.Context, _ *request, p *PageQuery, _ *none) (*listed[sidecarView], error) {
	page, err := p.page()
	if err != nil {
		return nil, err
	}
	found, err := a.store.Sidecars(ctx, page)
	if err != nil {
		return nil, err
	}
	return list(found, viewSidecar), nil
}
