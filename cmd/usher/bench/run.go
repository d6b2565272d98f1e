package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/usher-authz/usher/policies"
)

// Report is all that a run found.
type Report struct {
	Owners    int    `json:"owners"`
	Grants    int    `json:"grants"`
	Seed      uint64 `json:"seed"`
	Import    Import `json:"import"`
	InProcess `json:"in_process"`

	// ColdStart is from the start of a sidecar's process until it is ready, the
	// snapshot come over the feed, in seconds.
	ColdStart float64 `json:"cold_start_seconds"`
	Disk      Disk    `json:"cold_start_from_disk"`
	// Resident and Peak are what the first sidecar's process has in memory after all
	// loads, and had at most, in bytes; 0 where that cannot be read.
	Resident uint64 `json:"resident_bytes"`
	Peak     uint64 `json:"peak_bytes"`
	// Started is what the first sidecar's process had at most until it was ready.
	Started uint64 `json:"peak_bytes_until_ready"`
	Loads   []Load `json:"loads"`
	// Revocation is at ten changes a second, and Loaded while the first sidecar is also
	// asked as fast as it answers.
	Revocation Revocation `json:"revocation"`
	Loaded     Revocation `json:"revocation_under_load"`
	// InRedis is a check on demand that is not in memory, but in Redis, beside one GET;
	// nil: no Redis was named.
	InRedis *Miss `json:"in_redis"`
}

// WrongError says that answers were wrong, or that there were none: no figure counts
// then.
type WrongError struct {
	Wrong, Failed int
	First         string
}

func (e *WrongError) Error() string {
	return fmt.Sprintf("%d answers were wrong and %d requests failed: %s", e.Wrong, e.Failed, e.First)
}

const (
	loadQuestions = 10_000
	batchSize     = 100

	scrapeInterval = time.Second
)

// bench is one run.
type bench struct {
	o         Options
	admin     *admin
	platform  *platform
	questions []question
	dir       string
	children  []*child
	targets   []*target
	report    Report
}

// Run measures, and stops what it started. The report is whole unless there is an
// error; with a [WrongError] it is there too.
func Run(ctx context.Context, o Options) (report *Report, err error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	b := &bench{o: o, admin: &admin{url: strings.TrimSuffix(o.AdminURL, "/"), token: o.Token, http: &http.Client{}}}
	if b.platform, err = generate(o.Seed, o.Owners); err != nil {
		return nil, err
	}
	if b.dir, err = os.MkdirTemp("", "usher-bench-"); err != nil {
		return nil, fmt.Errorf("make a directory for the bundle: %w", err)
	}
	running, stop := context.WithCancel(ctx)
	defer func() {
		stop()
		for _, c := range b.children {
			<-c.done
		}
		err = errors.Join(err, os.RemoveAll(b.dir))
	}()
	if err := b.run(running); err != nil {
		return nil, err
	}
	return &b.report, b.verdict()
}

func (b *bench) tellf(format string, args ...any) {
	_, _ = fmt.Fprintf(b.o.Progress, "usher bench: "+format+"\n", args...) // nobody reads: no reason to stop
}

func (b *bench) run(ctx context.Context) error {
	b.tellf("import %d accounts", b.o.Owners)
	imported, revision, err := b.admin.importAll(ctx, b.platform.documents)
	if err != nil {
		return err
	}
	b.report = Report{Owners: b.o.Owners, Grants: b.o.Owners * grantsEach, Seed: b.o.Seed, Import: imported}
	b.questions = b.platform.questions(loadQuestions)
	b.tellf("the engine in this process")
	bundle, err := b.bundle(ctx)
	if err != nil {
		return err
	}
	if err := b.inProcess(ctx, bundle); err != nil {
		return err
	}
	b.tellf("start %d sidecars", b.o.Sidecars)
	sidecars, err := b.startSidecars(ctx, revision)
	if err != nil {
		return err
	}
	if err := b.loads(ctx, sidecars[0], bundle); err != nil {
		return err
	}
	if err := b.inRedis(ctx); err != nil {
		return err
	}
	if err := b.changes(ctx, sidecars); err != nil {
		return err
	}
	if resident, peak, err := sidecars[0].memory(); err == nil { // else it stays 0
		b.report.Resident, b.report.Peak = resident, peak
	}
	b.tellf("a sidecar that starts from its snapshot on disk")
	return b.startFromDisk(ctx, sidecars[len(sidecars)-1])
}

// bundle downloads what a stock OPA would.
func (b *bench) bundle(ctx context.Context) (string, error) {
	path := filepath.Join(b.dir, "usher.tar.gz")
	file, err := os.Create(path)
	if err != nil {
		return "", fmt.Errorf("keep the bundle: %w", err)
	}
	_, err = b.admin.call(ctx, http.MethodGet, "/v1/bundles/usher.tar.gz", "", nil, file)
	return path, errors.Join(err, file.Close())
}

func (b *bench) inProcess(ctx context.Context, bundle string) error {
	var err error
	b.report.InProcess, err = measureInProcess(ctx, bundle, b.platform)
	return err
}

// sidecar starts one as `usher sidecar` would be, with more options.
func (b *bench) sidecar(ctx context.Context, options ...string) (*child, error) {
	env := []string{"USHER_TOKEN=" + b.o.Token}
	for _, name := range []string{ // what would make it another sidecar than this
		"CONFIG", "SOCKET", "AUTH", "BUNDLE", "PUBLIC_URL", "TLS_CERT", "TLS_KEY", "DIR", "MODE", "LOG_LEVEL", "CACHE_LIMIT",
	} {
		env = append(env, "USHER_"+name+"=")
	}
	s, err := start(ctx, b.o.Program, pathReady, env, func(address string) []string {
		return append([]string{"sidecar", "--listen", address, "--admin-url", b.o.AdminURL, "--log-level", "warn"}, options...)
	})
	if err != nil {
		return nil, fmt.Errorf("start a sidecar: %w", err)
	}
	b.children = append(b.children, s)
	return s, nil
}

// startSidecars starts those that the changes are watched at.
func (b *bench) startSidecars(ctx context.Context, revision policies.Revision) ([]*child, error) {
	for i := range b.o.Sidecars {
		var options []string
		if i == 0 {
			options = append(options, "--socket", b.socket())
		}
		if i == b.o.Sidecars-1 {
			options = append(options, "--dir", b.kept())
		}
		s, err := b.sidecar(ctx, options...)
		if err != nil {
			return nil, err
		}
		b.report.ColdStart = max(b.report.ColdStart, s.took.Seconds())
		if _, peak, err := s.memory(); err == nil { // else it stays 0
			b.report.Started = max(b.report.Started, peak)
		}
		// From here on nobody meets an older revision.
		if _, err := b.ask(ctx, s, revision); err != nil {
			return nil, err
		}
	}
	return b.children, nil
}

// kept is where the last sidecar keeps its snapshot.
func (b *bench) kept() string { return filepath.Join(b.dir, "snapshot") }

// socket is that of the first sidecar.
func (b *bench) socket() string { return filepath.Join(b.dir, "sidecar.sock") }

// ask makes one check, and gives the length of its answer.
func (b *bench) ask(ctx context.Context, s *child, atLeast policies.Revision) (int, error) {
	c, err := dial(ctx, s.address)
	if err != nil {
		return 0, err
	}
	defer c.close()
	body, err := checkBody(b.questions[0].Question, atLeast)
	if err != nil {
		return 0, err
	}
	answer, err := c.do(request(pathEvaluation, s.address, b.o.Token, body))
	return len(answer), err
}

// bodies are the questions one by one, batches of them, and as OPA's input.
func (b *bench) bodies() (ones, batches, inputs []jsontext.Value, err error) {
	for _, q := range b.questions {
		body, err := checkBody(q.Question, 0)
		if err != nil {
			return nil, nil, nil, err
		}
		ones = append(ones, body)
	}
	for i := 0; i < len(ones); i += batchSize {
		batch, err := json.Marshal(map[string][]jsontext.Value{"evaluations": ones[i : i+batchSize]})
		if err != nil {
			return nil, nil, nil, fmt.Errorf("encode a batch: %w", err)
		}
		batches = append(batches, batch)
	}
	for _, body := range ones {
		input, err := json.Marshal(map[string]jsontext.Value{"input": body})
		if err != nil {
			return nil, nil, nil, fmt.Errorf("encode an input: %w", err)
		}
		inputs = append(inputs, input)
	}
	return ones, batches, inputs, nil
}

// target adds one way to ask a server.
func (b *bench) target(name string, s *child, address, path string, bodies []jsontext.Value, checks int, right func(int, []byte) bool) *target {
	t := &target{name: name, server: s, address: address, checks: checks, right: right}
	for _, body := range bodies {
		t.requests = append(t.requests, request(path, address, b.o.Token, body))
	}
	b.targets = append(b.targets, t)
	return t
}

func (b *bench) loads(ctx context.Context, sidecar *child, bundle string) error {
	ones, batches, inputs, err := b.bodies()
	if err != nil {
		return err
	}
	one, batch, err := b.lengths(ctx, sidecar, batches)
	if err != nil {
		return err
	}
	floor, err := start(ctx, b.o.Program, pathReady, []string{"USHER_TOKEN=" + b.o.Token, "USHER_CONFIG="}, func(address string) []string {
		return []string{"bench-floor", "--listen", address, "--check-bytes", strconv.Itoa(one), "--batch-bytes", strconv.Itoa(batch)}
	})
	if err != nil {
		return fmt.Errorf("start the floor: %w", err)
	}
	b.children = append(b.children, floor)

	check := b.target("check", sidecar, sidecar.address, pathEvaluation, ones, 1, rightOne(b.questions))
	checkFloor := b.target("check, floor", floor, floor.address, pathEvaluation, ones, 1, blank(one))
	if err := b.warm(ctx, sidecar, batches); err != nil {
		return err
	}
	b.tellf("checks over HTTP, beside the floor")
	socket := b.target("check, Unix socket", sidecar, b.socket(), pathEvaluation, ones, 1, rightOne(b.questions))
	onDemand, err := b.onDemand(ctx, ones, batches)
	if err != nil {
		return err
	}
	if err := load(ctx, b.o.Connections, b.o.Duration, checkFloor, check, socket, onDemand); err != nil {
		return err
	}
	many := b.target("batch of 100", sidecar, sidecar.address, pathEvaluations, batches, batchSize, rightBatch(b.questions, batchSize))
	manyFloor := b.target("batch of 100, floor", floor, floor.address, pathEvaluations, batches, batchSize, blank(batch))
	b.tellf("batches of %d over HTTP, beside the floor", batchSize)
	if err := load(ctx, b.o.Connections, b.o.Duration, manyFloor, many); err != nil {
		return err
	}
	b.report.Loads = append(b.report.Loads, checkFloor.found(nil), check.found(checkFloor), socket.found(checkFloor), onDemand.found(checkFloor),
		manyFloor.found(nil), many.found(manyFloor))
	if b.o.OPA != "" {
		if err := b.opa(ctx, bundle, inputs, checkFloor); err != nil {
			return err
		}
	}
	// What follows is about the sidecars: no other process of ours is to be at it too.
	return endAll(b.children[b.o.Sidecars:])
}

// lengths are those of an answer to a check and to a batch.
func (b *bench) lengths(ctx context.Context, sidecar *child, batches []jsontext.Value) (one, batch int, err error) {
	if one, err = b.ask(ctx, sidecar, 0); err != nil {
		return 0, 0, err
	}
	c, err := dial(ctx, sidecar.address)
	if err != nil {
		return 0, 0, err
	}
	defer c.close()
	answer, err := c.do(request(pathEvaluations, sidecar.address, b.o.Token, batches[0]))
	return one, len(answer), err
}

// onDemand starts a sidecar of that mode, over the Redis of the environment, and asks it
// each question once.
func (b *bench) onDemand(ctx context.Context, ones, batches []jsontext.Value) (*target, error) {
	s, err := b.sidecar(ctx, "--mode", "on-demand")
	if err != nil {
		return nil, err
	}
	if err := b.warm(ctx, s, batches); err != nil {
		return nil, err
	}
	return b.target("check, on demand", s, s.address, pathEvaluation, ones, 1, rightOne(b.questions)), nil
}

// warm asks each question once, so that what is measured is answered by the cache.
func (b *bench) warm(ctx context.Context, s *child, batches []jsontext.Value) error {
	c, err := dial(ctx, s.address)
	if err != nil {
		return err
	}
	defer c.close()
	for _, batch := range batches {
		if _, err := c.do(request(pathEvaluations, s.address, b.o.Token, batch)); err != nil {
			return err
		}
	}
	return nil
}

// opa asks a stock OPA on the same bundle the same questions.
func (b *bench) opa(ctx context.Context, bundle string, inputs []jsontext.Value, floor *target) error {
	b.tellf("the same checks on a stock OPA")
	s, err := start(ctx, b.o.OPA, "/health", nil, func(address string) []string {
		return []string{"run", "--server", "--addr", address, "--log-level", "error", "--skip-version-check", "--skip-verify", bundle}
	})
	if err != nil {
		return fmt.Errorf("start OPA: %w", err)
	}
	b.children = append(b.children, s)
	t := b.target("check, stock OPA", s, s.address, "/v1/data/usher/authz/decision", inputs, 1, rightOPA(b.questions))
	if err := load(ctx, b.o.Connections, b.o.Duration, t); err != nil {
		return err
	}
	b.report.Loads = append(b.report.Loads, t.found(floor))
	return nil
}

// changes lets grants come and go: at first nothing else is asked, then the sidecars
// are all the time, one after the other, for single checks and for batches.
func (b *bench) changes(ctx context.Context, sidecars []*child) error {
	ones, batches, _, err := b.bodies()
	if err != nil {
		return err
	}
	single := b.target("check, during changes", sidecars[0], sidecars[0].address, pathEvaluation, ones, 1, rightOne(b.questions))
	batch := b.target("batch of 100, during changes", sidecars[0], sidecars[0].address, pathEvaluations, batches, batchSize, rightBatch(b.questions, batchSize))
	for _, s := range sidecars {
		if err := b.warm(ctx, s, batches); err != nil {
			return err
		}
	}
	b.platform.documents = nil // all that is left to make is made from the seed: nor do we collect while they work
	w := newWatcher(b.admin, b.platform, sidecars)
	defer w.close()
	b.tellf("%d grants are given and taken back", b.o.Changes)
	if b.report.Revocation, err = w.run(ctx, func(made int) bool { return made >= b.o.Changes }); err != nil {
		return err
	}
	b.tellf("the same while others are asked about")
	asking, enough := context.WithCancel(ctx)
	var asked sync.WaitGroup
	asked.Go(func() {
		for turn := 0; asking.Err() == nil; turn++ {
			sidecar := sidecars[turn%len(sidecars)]
			for _, t := range []*target{single, batch} {
				t.server, t.address = sidecar, sidecar.address
				_ = t.round(asking, b.o.Connections, turnTime) // its only error is that it was enough
			}
		}
	})
	asked.Go(func() { b.scrape(asking, sidecars) })
	until := time.Now().Add(b.o.Duration)
	b.report.Loaded, err = w.run(ctx, func(int) bool {
		return single.asked.Load()+batchSize*batch.asked.Load() >= int64(b.o.Checks) && time.Now().After(until)
	})
	enough()
	asked.Wait()
	b.report.Loads = append(b.report.Loads, single.found(nil), batch.found(nil))
	return err
}

// scrape reads the metrics of all sidecars once a second, as a Prometheus would.
func (b *bench) scrape(ctx context.Context, sidecars []*child) {
	due := time.NewTicker(scrapeInterval)
	defer due.Stop()
	for ctx.Err() == nil {
		for _, s := range sidecars {
			of := admin{url: "http://" + s.address, token: b.o.Token, http: b.admin.http}
			_, _ = of.call(ctx, http.MethodGet, "/metrics", "", nil, io.Discard) // that it is done is what counts
		}
		select {
		case <-due.C:
		case <-ctx.Done():
		}
	}
}

// verdict is an error if any answer was wrong or missing.
func (b *bench) verdict() error {
	bad := &WrongError{Wrong: b.report.Revocation.Wrong + b.report.Loaded.Wrong + b.report.Hot.Wrong + b.report.Cold.Wrong}
	if b.report.InRedis != nil {
		bad.Wrong += b.report.InRedis.Wrong
	}
	if bad.Wrong > 0 {
		bad.First = "the engine in this process, or an answer at the revision of a change"
	}
	for _, t := range b.targets {
		bad.Wrong += t.wrong
		bad.Failed += t.errors
		if bad.First == "" && t.firstBad != "" {
			bad.First = t.name + ": " + t.firstBad
		}
	}
	if bad.Wrong+bad.Failed > 0 {
		return bad
	}
	return nil
}
