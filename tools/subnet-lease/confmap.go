package main

import (
	"context"
	"errors"
	"strings"
	"sync"

	"github.com/towpath/towpath/lib/exit"
	"github.com/towpath/towpath/lib/kube"
	"github.com/towpath/towpath/lib/netconf"
	"github.com/towpath/towpath/lib/plan"
	"github.com/towpath/towpath/lib/state"
	"github.com/towpath/towpath/lib/tool"
)

// The keys of flannel's ConfigMap, kube-flannel-cfg.
const (
	keyNetConf = "net-conf.json"
	keyCNIConf = "cni-conf.json"
)

// configMap is a ConfigMap in the place of net-conf.json, read from the API by its name.
type configMap struct {
	client          *kube.Client
	namespace, name string

	mu        sync.Mutex
	following bool
	known     bool // texts is what the API server said
	texts     map[string]string
	trouble   error
	hints     hintQueue
	answer    chan struct{}
}

// openConfigMap is the ConfigMap that --net-conf names as configmap:NAMESPACE/NAME.
func openConfigMap(client *kube.Client, text string) (*configMap, error) {
	namespace, name, ok := strings.Cut(strings.TrimPrefix(text, state.ConfigMap), "/")
	if !ok || namespace == "" || name == "" || strings.Contains(name, "/") {
		return nil, exit.WithHint(exit.Errorf(exit.Usage, "--net-conf %q: no name of a ConfigMap", text), "write configmap:NAMESPACE/NAME")
	}
	return &configMap{client: client, namespace: namespace, name: name, hints: newHintQueue(), answer: make(chan struct{})}, nil
}

// Load gives the texts by key.
func (m *configMap) Load(ctx context.Context) (map[string]string, error) {
	m.mu.Lock()
	following := m.following
	m.mu.Unlock()
	var texts map[string]string
	var err error
	if following {
		texts, err = m.last(ctx)
	} else {
		texts, err = kube.ConfigMapData(ctx, m.client, m.namespace, m.name)
	}
	if kube.NotFound(err) || err == nil && texts == nil {
		return nil, exit.WithHint(exit.Errorf(exit.TryAgain, "the ConfigMap %s/%s does not exist", m.namespace, m.name),
			"make it, with the keys %s and %s, as flannel's kube-flannel-cfg", keyNetConf, keyCNIConf)
	}
	return texts, err
}

func (m *configMap) last(ctx context.Context) (map[string]string, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	select {
	case <-m.answer:
	case <-ctx.Done():
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.known:
		return m.texts, nil
	case m.trouble != nil:
		return nil, m.trouble
	case errors.Is(ctx.Err(), context.Canceled):
		return nil, ctx.Err()
	}
	return nil, exit.Errorf(exit.Unavailable, "get configmap %s/%s: no answer from %s within %s", m.namespace, m.name, m.client.Host(), answerWait)
}

// Watch begins to follow the ConfigMap; a hint says that it changed.
func (m *configMap) Watch(ctx context.Context) <-chan Hint {
	m.mu.Lock()
	m.following = true
	m.mu.Unlock()
	var once sync.Once
	answered := func() { once.Do(func() { close(m.answer) }) }
	go kube.FollowConfigMap(ctx, m.client, m.namespace, m.name, func(texts map[string]string) {
		m.mu.Lock()
		m.known, m.texts = true, texts
		m.mu.Unlock()
		answered()
		m.hints.put(Hint{All: true})
	}, func(err error) {
		m.mu.Lock()
		m.trouble = err
		m.mu.Unlock()
		answered()
	}, nil)
	return m.hints.serve(ctx)
}

// netConfOf is --net-conf; where it is not given and the store is etcd, the configuration is in the store, as flannel has it.
func netConfOf(env *tool.Env) string {
	if !env.IsSet("net-conf") && inEtcd(env) {
		return state.Etcd
	}
	return env.String("net-conf")
}

// checkSource refuses a configuration in etcd where the store is another.
func (s *step) checkSource() error {
	if s.netConf != state.Etcd || inEtcd(s.env) {
		return nil
	}
	return exit.WithHint(exit.Errorf(exit.Usage, "--net-conf etcd: the store is %s", s.env.String("store")), "give --store etcd://HOST:PORT, or name a file")
}

// confName names the configuration in messages.
func (s *step) confName() string {
	if s.netConf == state.Etcd && s.etcd != nil {
		return s.etcd.confName()
	}
	return s.netConf
}

// loadConf reads the configuration, from the file, the ConfigMap or etcd.
func (s *step) loadConf(ctx context.Context) (netconf.Config, []string, error) {
	switch {
	case s.netConf == state.Etcd:
		return s.etcd.Config(ctx)
	case s.confMap == nil:
		return netconf.Load(s.netConf)
	}
	texts, err := s.confMap.Load(ctx)
	if err != nil {
		return netconf.Config{}, nil, err
	}
	text, ok := texts[keyNetConf]
	if !ok {
		return netconf.Config{}, nil, exit.WithHint(exit.Errorf(exit.BadConfig, "%s: the key %s is missing", s.netConf, keyNetConf),
			"write flannel's net-conf.json there")
	}
	if cni, ok := texts[keyCNIConf]; ok {
		s.cniConf = []byte(cni)
	}
	return netconf.Parse(s.netConf+" "+keyNetConf, []byte(text))
}

// cniConfOp writes the ConfigMap's cni-conf.json for cni-bridge. A key that is missing takes nothing away.
func (s *step) cniConfOp() plan.Op {
	if s.confMap == nil || s.cniConf == nil {
		return nil
	}
	return state.WriteBytesOp(s.env.RunDir.CNIConf(), s.cniConf)
}
