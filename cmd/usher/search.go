package main

import (
	"context"
	"fmt"

	"github.com/usher-authz/usher/authz/server"
	"github.com/usher-authz/usher/policies"
)

// The endpoints of the check API that commands ask.
const (
	pathEvaluation = server.PathEvaluation
	pathSubjects   = server.PathSubjects
	pathResources  = server.PathResources
	pathActions    = server.PathActions
)

// searchRequest is a search; what is looked for has no id, or is nil.
type searchRequest struct {
	Subject  *named            `json:"subject,omitzero"`
	Action   *evaluationAction `json:"action,omitzero"`
	Resource *named            `json:"resource,omitzero"`
	Page     *searchPage       `json:"page,omitzero"`
}

type searchPage struct {
	Token string `json:"token"`
}

// searched is all that a search finds.
type searched struct {
	Revision policies.Revision
	IDs      []string // names of actions, for those
}

// search follows the pages of a search to the end. All are of one revision. Each
// page moves bar on.
func (c *client) search(ctx context.Context, path string, request searchRequest, bar progress) (searched, error) {
	var all searched
	for {
		var answer struct {
			Page struct {
				NextToken string `json:"next_token"`
			} `json:"page"`
			Context struct {
				Revision policies.Revision `json:"revision"`
			} `json:"context"`
			Results []struct {
				ID   string `json:"id"`
				Name string `json:"name"`
			} `json:"results"`
		}
		if err := c.postJSON(ctx, path, request, &answer); err != nil {
			return all, err
		}
		if len(all.IDs) > 0 && answer.Context.Revision != all.Revision {
			return all, fmt.Errorf("%s answered one page at revision %d and the next at %d: is it a usher sidecar, and always the same?",
				c.base, all.Revision, answer.Context.Revision)
		}
		all.Revision = answer.Context.Revision
		for _, r := range answer.Results {
			if r.ID == "" {
				r.ID = r.Name
			}
			all.IDs = append(all.IDs, r.ID)
		}
		bar.add(len(answer.Results))
		if answer.Page.NextToken == "" {
			return all, nil
		}
		request = searchRequest{Page: &searchPage{answer.Page.NextToken}}
	}
}
