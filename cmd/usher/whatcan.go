package main

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"text/tabwriter"

	"github.com/usher-authz/usher/policies"
)

type whatCanCommand struct {
	sidecarAccess `embed:""`

	Subject  string `arg:"" help:"The account: its id, or its email address where --admin-url is given."`
	Resource string `arg:"" optional:"" help:"TYPE:ID, to list the actions on it; without, all resources on which the account may do anything." name:"type:id"`
	Output   string `default:"table" enum:"table,json" help:"How it is printed: ${enum}."`
}

// Help is shown by --help below the options.
func (*whatCanCommand) Help() string {
	return "An email address needs the scope resources. Without TYPE:ID resources are found by the actions of the catalogue, and, " +
		"where --admin-url is given, by those of the custom policies of all who share with the account: the token then needs the scopes " +
		"collaboration and act-as too.\n\n" +
		"Examples: usher what-can gita environment:wiki; usher what-can gita@northwind.example --output json"
}

// actionsFound is one resource with what the account may do on it.
type actionsFound struct {
	Resource named    `json:"resource"`
	Actions  []string `json:"actions"`
}

// permissionsFound is what --output json prints. The revisions differ where something
// changed between two searches; each search is of one.
type permissionsFound struct {
	Subject   string            `json:"subject"`
	Revision  policies.Revision `json:"revision"`
	Until     policies.Revision `json:"until_revision"`
	Resources []actionsFound    `json:"resources"`
}

// Run asks and prints.
func (c *whatCanCommand) Run(ctx context.Context, p *Process) error {
	sidecar, err := newClient("sidecar-url", c.SidecarURL, c.Token)
	if err != nil {
		return err
	}
	w := &whatCan{command: c, sidecar: sidecar, process: p}
	if w.catalogue, err = policies.EmbeddedCatalogue(); err != nil {
		return err
	}
	if w.found.Subject, err = c.accountOf(ctx, c.Subject); err != nil {
		return err
	}
	if c.Resource != "" {
		return w.onOne(ctx)
	}
	return w.onAll(ctx)
}

// whatCan is one run.
type whatCan struct {
	command   *whatCanCommand
	sidecar   *client
	process   *Process
	catalogue policies.Catalogue
	found     permissionsFound
}

// onOne lists the actions on the resource that was given.
func (w *whatCan) onOne(ctx context.Context) error {
	resource, err := parseResource(w.command.Resource)
	if err != nil {
		return err
	}
	if err := w.actionsOn(ctx, resource); err != nil {
		return err
	}
	if w.command.Output == "json" {
		return printJSON(w.process, w.found)
	}
	if actions := w.found.Resources[0].Actions; len(actions) > 0 {
		return printColumn(w.process, "ACTION", actions, w.found.Until)
	}
	reason, err := w.reason(ctx, resource)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w.process.Stderr, "usher: nothing: %s (%s)\n", reason, meaning(reason))
	return err
}

// onAll finds the resources, then the actions on each.
func (w *whatCan) onAll(ctx context.Context) error {
	reason, err := w.reason(ctx, named{string(policies.TypeAccount), w.found.Subject})
	if err != nil {
		return err
	}
	if reason == policies.ReasonUnknownSubject {
		return fmt.Errorf("%s: %s", w.command.Subject, meaning(reason))
	}
	resources, err := w.resources(ctx)
	if err != nil {
		return err
	}
	bar := newCount(w.process.Stderr, "actions on resources")
	for i, resource := range resources {
		bar.at(uint64(i), uint64(len(resources)))
		if err := w.actionsOn(ctx, resource); err != nil {
			bar.done()
			return err
		}
	}
	bar.done()
	if w.command.Output == "json" {
		return printJSON(w.process, w.found)
	}
	t := tabwriter.NewWriter(w.process.Stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "RESOURCE\tACTIONS") // a tabwriter tells at Flush
	for _, r := range w.found.Resources {
		_, _ = fmt.Fprintf(t, "%s\t%d\n", r.Resource, len(r.Actions))
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("print what was found: %w", err)
	}
	_, err = fmt.Fprintf(w.process.Stderr, "%d, %s; name one of them to list the actions\n", len(w.found.Resources), w.revisions())
	return err
}

func (w *whatCan) revisions() string {
	if w.found.Revision == w.found.Until {
		return fmt.Sprintf("revision %d", w.found.Until)
	}
	return fmt.Sprintf("revisions %d to %d: something changed meanwhile", w.found.Revision, w.found.Until)
}

// saw notes the revision of a search.
func (w *whatCan) saw(revision policies.Revision) {
	if w.found.Revision == 0 || revision < w.found.Revision {
		w.found.Revision = revision
	}
	w.found.Until = max(w.found.Until, revision)
}

func (w *whatCan) actionsOn(ctx context.Context, resource named) error {
	found, err := w.sidecar.search(ctx, pathActions, searchRequest{
		Subject: &named{"account", w.found.Subject}, Resource: &resource,
	}, progress{})
	if err != nil {
		return err
	}
	w.saw(found.Revision)
	w.found.Resources = append(w.found.Resources, actionsFound{resource, orEmpty(found.IDs)})
	return nil
}

// reason is why the account may or may not do the first action of the catalogue on
// the resource.
func (w *whatCan) reason(ctx context.Context, resource named) (policies.Reason, error) {
	var answer evaluation
	err := w.sidecar.postJSON(ctx, pathEvaluation, evaluationRequest{
		Subject: named{"account", w.found.Subject}, Action: evaluationAction{string(w.catalogue.Policies[0].Actions[0])}, Resource: resource,
	}, &answer)
	return answer.Context.Reason, err
}

// resources are those on which the account may do any action of some policy, by type
// and id.
func (w *whatCan) resources(ctx context.Context) ([]named, error) {
	custom, err := w.customPolicies(ctx)
	if err != nil {
		return nil, err
	}
	for _, system := range w.catalogue.Policies {
		custom = append(custom, granting{Resources: system.Resources, Actions: system.Actions})
	}
	bar := newCount(w.process.Stderr, "resources")
	defer bar.done()
	var all []named
	for _, kind := range policies.ResourceTypes {
		ids := map[string]bool{}
		for _, action := range representatives(custom, kind) {
			found, err := w.sidecar.search(ctx, pathResources, searchRequest{
				Subject: &named{"account", w.found.Subject}, Action: &evaluationAction{string(action)}, Resource: &named{Type: string(kind)},
			}, progress{})
			if err != nil {
				return nil, err
			}
			w.saw(found.Revision)
			for _, id := range found.IDs {
				if !ids[id] {
					ids[id] = true
					bar.add(1)
				}
			}
		}
		for _, id := range slices.Sorted(maps.Keys(ids)) {
			all = append(all, named{string(kind), id})
		}
	}
	return all, nil
}

// granting is what a policy allows, and where.
type granting struct {
	System    bool                    `json:"system"`
	Resources []policies.ResourceType `json:"resources"`
	Actions   []policies.ActionName   `json:"actions"`
}

// representatives are actions of which every policy for kind has one: whoever has
// anything on a resource by a policy has all that the policy allows there, so one
// search a policy is enough.
func representatives(all []granting, kind policies.ResourceType) []policies.ActionName {
	var chosen []policies.ActionName
	for _, p := range all {
		if !slices.Contains(p.Resources, kind) || len(p.Actions) == 0 || slices.ContainsFunc(chosen, func(a policies.ActionName) bool {
			return slices.Contains(p.Actions, a)
		}) {
			continue
		}
		chosen = append(chosen, p.Actions[0])
	}
	return chosen
}

// customPolicies are those of all who share with the account; a line says so where
// there is nobody to ask for them.
func (w *whatCan) customPolicies(ctx context.Context) ([]granting, error) {
	if w.command.AdminURL == "" {
		_, err := fmt.Fprintln(w.process.Stderr, "usher: without --admin-url, what is allowed by custom policies alone is not found")
		return nil, err
	}
	admin, err := newClient("admin-url", w.command.AdminURL, w.command.Token)
	if err != nil {
		return nil, err
	}
	type collaboration struct {
		Owner struct {
			ID string `json:"id"`
		} `json:"owner"`
	}
	shared, err := listAll[collaboration](ctx, admin, "/v1/collaborations", func(r *http.Request) {
		r.Header.Set("Usher-Act-As", w.found.Subject)
	})
	if err != nil {
		return nil, err
	}
	var custom []granting
	for _, c := range shared {
		known, err := listAll[granting](ctx, admin, "/v1/accounts/"+url.PathEscape(c.Owner.ID)+"/policies")
		if err != nil {
			return nil, err
		}
		for _, p := range known {
			if !p.System {
				custom = append(custom, p)
			}
		}
	}
	return custom, nil
}

// orEmpty keeps an empty list from being null in JSON.
func orEmpty(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}
