package feed

import (
	"context"
	"errors"
	"fmt"

	"github.com/usher-authz/usher/policies"
	"github.com/usher-authz/usher/policies/signing"
)

// MinRevisionHeader demands an answer from that revision or a later one.
const MinRevisionHeader = "Usher-Min-Revision"

// LookupRequest asks for parts of the state, all at one revision. It may ask
// for policies.MaxLookups things in all.
type LookupRequest struct {
	// Min is the least revision to answer from; it travels as a header.
	Min       policies.Revision      `json:"-"`
	Accounts  []LookupAccountRequest `json:"accounts,omitempty"`
	Resources []policies.Resource    `json:"resources,omitempty"`
	Subjects  []policies.AccountID   `json:"subjects,omitempty"`
}

// LookupAccountRequest asks for one account in full, or for the word that it has
// not changed since a revision of the same epoch at which the asker knew it; zero:
// in full.
type LookupAccountRequest struct {
	ID    policies.AccountID `json:"id"`
	Since policies.Revision  `json:"since,omitzero"`
}

// LookupResponse answers every part of a request from the state at Revision.
type LookupResponse struct {
	Platform string            `json:"platform"`
	Revision policies.Revision `json:"revision"`
	Hash     policies.Hash     `json:"hash"`
	// Accounts has every account asked for; nil: there is no such account.
	Accounts map[policies.AccountID]*LookupAccount `json:"accounts"`
	// Owners has every resource asked for, by policies.Resource.String; nil: there is
	// no such resource.
	Owners map[string]*policies.AccountID `json:"owners"`
	// Subjects tells of every subject asked for whether there is such an account.
	Subjects map[policies.AccountID]bool `json:"subjects"`
	// Signatures are of all bytes of the answer before them, see [AnswerText].
	Signatures signing.Signatures `json:"signatures,omitempty"`
}

// LookupAccount is one account in full, or unchanged.
type LookupAccount struct {
	// Changed is the last revision that touched the account, as far as the server
	// knows: at most Revision, and never too small.
	Changed   policies.Revision `json:"changed"`
	Unchanged bool              `json:"unchanged,omitzero"`
	Objects   []policies.Object `json:"objects,omitempty"` // as authz.State.AccountObjects gives them
}

// AnswerError is an answer to a look-up or a search that does not answer it: not JSON, too
// large, of another platform, too old, or with parts missing. Nothing of it may be
// used. Find it with errors.As.
type AnswerError struct{ Err error }

func (e *AnswerError) Error() string { return "the answer of the admin server: " + e.Err.Error() }

func (e *AnswerError) Unwrap() error { return e.Err }

// Lookup asks the server for parts of the state. It honours ctx, and does not try
// again. The error is a [*StatusError] (503 while the server has not reached
// req.Min), a [*RefusedError] (of another platform), an [*AnswerError], or the
// network's.
func (c *Client) Lookup(ctx context.Context, req LookupRequest) (LookupResponse, error) {
	if err := req.Validate(); err != nil {
		return LookupResponse{}, fmt.Errorf("look up: %w", err)
	}
	data, err := c.ask(ctx, question{
		path: LookupPath, body: req, least: req.Min, purpose: signing.Lookup, what: "an answer to a look-up", limit: MaxLookupAnswer,
		silence: c.o.Silence,
	})
	var answer LookupResponse
	if err == nil {
		err = decodeAnswer(data, &answer)
	}
	if err == nil {
		err = c.checkLookup(req, answer)
	}
	if err != nil {
		return LookupResponse{}, c.notAnswered(ctx, LookupPath, err)
	}
	return answer, nil
}

// checkLookup tells whether answer answers req. A missing part must not pass for
// "there is no such thing".
func (c *Client) checkLookup(req LookupRequest, answer LookupResponse) error {
	if platform := c.Status().Platform; platform != "" && answer.Platform != platform {
		return refuse(RefusedPlatform, fmt.Errorf("an answer of platform %q, not of %q", answer.Platform, platform))
	}
	if answer.Platform == "" || answer.Revision < req.Min || !goodRevision(answer.Revision) {
		return &AnswerError{fmt.Errorf("platform %q at revision %d, wanted %d", answer.Platform, answer.Revision, req.Min)}
	}
	for _, want := range req.Accounts {
		got, ok := answer.Accounts[want.ID]
		switch {
		case !ok:
			return &AnswerError{fmt.Errorf("account %q is missing", want.ID)}
		case got == nil:
		case got.Changed > answer.Revision,
			got.Unchanged && !Unchanged(want.Since, got.Changed, answer.Revision),
			!got.Unchanged && len(got.Objects) == 0:
			return &AnswerError{fmt.Errorf("account %q is neither unchanged nor in full", want.ID)}
		}
	}
	for _, want := range req.Resources {
		if _, ok := answer.Owners[want.String()]; !ok {
			return &AnswerError{fmt.Errorf("the owner of %s is missing", want)}
		}
	}
	for _, want := range req.Subjects {
		if _, ok := answer.Subjects[want]; !ok {
			return &AnswerError{fmt.Errorf("subject %q is missing", want)}
		}
	}
	return nil
}

// Unchanged tells whether an account that was known at since and last changed at
// changed is the same at revision. Revisions of two epochs say nothing about each
// other: the one may have been lost (architecture.md, Epochs).
func Unchanged(since, changed, revision policies.Revision) bool {
	return since > 0 && since.Epoch() == revision.Epoch() && changed <= since && since <= revision
}

// Validate tells whether r is within its limits.
func (r LookupRequest) Validate() error {
	switch {
	case len(r.Accounts)+len(r.Resources)+len(r.Subjects) > policies.MaxLookups:
		return fmt.Errorf("more than %d things are asked for", policies.MaxLookups)
	case len(r.Accounts)+len(r.Resources)+len(r.Subjects) == 0:
		return errors.New("nothing is asked for")
	case r.Min > policies.MaxRevision:
		return errors.New("the least revision is out of range")
	}
	for _, a := range r.Accounts {
		if a.Since > policies.MaxRevision {
			return fmt.Errorf("accounts: since of %q is out of range", a.ID)
		}
	}
	return nil
}
