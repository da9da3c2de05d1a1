package objects

import (
	"fmt"
	"hash/fnv"
	"strings"

	"sigs.k8s.io/yaml"
)

// Stored gives the cluster's objects as an API server keeps them in etcd, by key: whole, with all that a real pod carries
// and no policy asks for, so that whoever reads them has the work that a real cluster makes. more namespaces are empty.
func (c Cluster) Stored(more int, put func(key, object string)) error {
	for i := range c.namespaces() + more {
		name := fmt.Sprintf("ns-%d", i)
		put("/registry/namespaces/"+name, fmt.Sprintf(`{"apiVersion":"v1","kind":"Namespace","metadata":{"name":%q,"uid":%q,"creationTimestamp":"2026-11-01T10:00:00Z",
			"labels":{"kubernetes.io/metadata.name":%[1]q,"team":"team-%[3]d"}},"spec":{"finalizers":["kubernetes"]},"status":{"phase":"Active"}}`, name, uid(name), i%10))
		put("/registry/serviceaccounts/"+name+"/default", fmt.Sprintf(`{"apiVersion":"v1","kind":"ServiceAccount","metadata":{"name":"default","namespace":%q,"uid":%q,
			"creationTimestamp":"2026-11-01T10:00:00Z"}}`, name, uid(name+"/default")))
	}
	for i := range c.Pods {
		p := c.Pod(i)
		put("/registry/pods/"+p.Namespace+"/"+p.Name, p.Stored())
	}
	for i := range c.Policies {
		text, err := yaml.YAMLToJSON([]byte(strings.TrimPrefix(c.Policy(i), "---\n")))
		if err != nil {
			return err
		}
		namespace, name := fmt.Sprintf("ns-%d", i%c.namespaces()), fmt.Sprintf("policy-%d", i/c.namespaces())
		meta := fmt.Sprintf(`"metadata":{"uid":%q,"generation":1,"creationTimestamp":"2026-11-01T10:00:00Z",`, uid(namespace+"/"+name))
		put("/registry/networkpolicies/"+namespace+"/"+name, strings.Replace(string(text), `"metadata":{`, meta, 1))
	}
	return nil
}

// uid is an object's identity, made of its name.
func uid(name string) string {
	h := fnv.New128a()
	h.Write([]byte(name))
	s := fmt.Sprintf("%x", h.Sum(nil))
	return s[:8] + "-" + s[8:12] + "-4" + s[13:16] + "-8" + s[17:20] + "-" + s[20:32]
}

// Stored is the pod as etcd has it: one of a Deployment, run by a kubelet.
func (p Pod) Stored() string {
	id := uid(p.Namespace + "/" + p.Name)
	return fmt.Sprintf(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":%[1]q,"namespace":%[2]q,"uid":%[3]q,"generateName":"%[4]s-6d4cf56db6-",
"creationTimestamp":"2026-11-01T10:00:00Z","labels":{"app":%[4]q,"tier":%[5]q,"pod-template-hash":"6d4cf56db6"},
"annotations":{"kubectl.kubernetes.io/restartedAt":"2026-11-01T09:59:58Z","prometheus.io/scrape":"true","prometheus.io/port":"9090"},
"ownerReferences":[{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"%[4]s-6d4cf56db6","uid":"0d6c8c1c-6a3c-4f0e-8d5e-5b1f8a3f9d11","controller":true,"blockOwnerDeletion":true}],
"managedFields":[{"manager":"kube-controller-manager","operation":"Update","apiVersion":"v1","time":"2026-11-01T10:00:00Z","fieldsType":"FieldsV1","fieldsV1":{"f:metadata":{"f:annotations":{".":{},"f:kubectl.kubernetes.io/restartedAt":{},"f:prometheus.io/port":{},"f:prometheus.io/scrape":{}},"f:generateName":{},"f:labels":{".":{},"f:app":{},"f:pod-template-hash":{},"f:tier":{}},"f:ownerReferences":{".":{},"k:{\"uid\":\"0d6c8c1c-6a3c-4f0e-8d5e-5b1f8a3f9d11\"}":{}}},"f:spec":{"f:containers":{"k:{\"name\":\"main\"}":{".":{},"f:env":{".":{},"k:{\"name\":\"DATABASE_URL\"}":{".":{},"f:name":{},"f:value":{}},"k:{\"name\":\"POD_NAME\"}":{".":{},"f:name":{},"f:valueFrom":{".":{},"f:fieldRef":{}}}},"f:image":{},"f:imagePullPolicy":{},"f:livenessProbe":{".":{},"f:failureThreshold":{},"f:httpGet":{".":{},"f:path":{},"f:port":{},"f:scheme":{}},"f:periodSeconds":{},"f:successThreshold":{},"f:timeoutSeconds":{}},"f:name":{},"f:ports":{".":{},"k:{\"containerPort\":8080,\"protocol\":\"TCP\"}":{".":{},"f:containerPort":{},"f:name":{},"f:protocol":{}},"k:{\"containerPort\":9090,\"protocol\":\"TCP\"}":{".":{},"f:containerPort":{},"f:name":{},"f:protocol":{}}},"f:resources":{".":{},"f:limits":{".":{},"f:memory":{}},"f:requests":{".":{},"f:cpu":{},"f:memory":{}}},"f:terminationMessagePath":{},"f:terminationMessagePolicy":{}}},"f:dnsPolicy":{},"f:enableServiceLinks":{},"f:restartPolicy":{},"f:schedulerName":{},"f:securityContext":{},"f:terminationGracePeriodSeconds":{}}}},
{"manager":"kubelet","operation":"Update","apiVersion":"v1","time":"2026-11-01T10:00:09Z","fieldsType":"FieldsV1","fieldsV1":{"f:status":{"f:conditions":{"k:{\"type\":\"ContainersReady\"}":{".":{},"f:lastProbeTime":{},"f:lastTransitionTime":{},"f:status":{},"f:type":{}},"k:{\"type\":\"Initialized\"}":{".":{},"f:lastProbeTime":{},"f:lastTransitionTime":{},"f:status":{},"f:type":{}},"k:{\"type\":\"Ready\"}":{".":{},"f:lastProbeTime":{},"f:lastTransitionTime":{},"f:status":{},"f:type":{}}},"f:containerStatuses":{},"f:hostIP":{},"f:hostIPs":{},"f:phase":{},"f:podIP":{},"f:podIPs":{".":{},"k:{\"ip\":\"%[7]s\"}":{".":{},"f:ip":{}}},"f:startTime":{}}},"subresource":"status"}]},
"spec":{"volumes":[{"name":"config","configMap":{"name":"%[4]s-config","defaultMode":420}},{"name":"kube-api-access-x7b2k","projected":{"sources":[{"serviceAccountToken":{"expirationSeconds":3607,"path":"token"}},{"configMap":{"name":"kube-root-ca.crt","items":[{"key":"ca.crt","path":"ca.crt"}]}},{"downwardAPI":{"items":[{"path":"namespace","fieldRef":{"apiVersion":"v1","fieldPath":"metadata.namespace"}}]}}],"defaultMode":420}}],
"containers":[{"name":"main","image":"registry.example/team/%[4]s:v1.14.3","args":["--listen=:8080","--metrics=:9090","--log-level=info"],
"ports":[{"name":"http","containerPort":8080,"protocol":"TCP"},{"name":"metrics","containerPort":9090,"protocol":"TCP"}],
"env":[{"name":"DATABASE_URL","value":"postgres://database.%[2]s.svc.cluster.local:5432/app"},{"name":"POD_NAME","valueFrom":{"fieldRef":{"apiVersion":"v1","fieldPath":"metadata.name"}}}],
"resources":{"limits":{"memory":"256Mi"},"requests":{"cpu":"100m","memory":"128Mi"}},
"volumeMounts":[{"name":"config","mountPath":"/etc/app"},{"name":"kube-api-access-x7b2k","readOnly":true,"mountPath":"/var/run/secrets/kubernetes.io/serviceaccount"}],
"livenessProbe":{"httpGet":{"path":"/healthz","port":"http","scheme":"HTTP"},"timeoutSeconds":1,"periodSeconds":10,"successThreshold":1,"failureThreshold":3},
"readinessProbe":{"httpGet":{"path":"/readyz","port":"http","scheme":"HTTP"},"timeoutSeconds":1,"periodSeconds":10,"successThreshold":1,"failureThreshold":3},
"terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File","imagePullPolicy":"IfNotPresent"}],
"restartPolicy":"Always","terminationGracePeriodSeconds":30,"dnsPolicy":"ClusterFirst","serviceAccountName":"default","serviceAccount":"default","nodeName":%[6]q,"securityContext":{},
"schedulerName":"default-scheduler","tolerations":[{"key":"node.kubernetes.io/not-ready","operator":"Exists","effect":"NoExecute","tolerationSeconds":300},{"key":"node.kubernetes.io/unreachable","operator":"Exists","effect":"NoExecute","tolerationSeconds":300}],
"priority":0,"enableServiceLinks":true,"preemptionPolicy":"PreemptLowerPriority"},
"status":{"phase":"Running","conditions":[{"type":"PodReadyToStartContainers","status":"True","lastTransitionTime":"2026-11-01T10:00:05Z"},{"type":"Initialized","status":"True","lastTransitionTime":"2026-11-01T10:00:01Z"},{"type":"Ready","status":"True","lastTransitionTime":"2026-11-01T10:00:09Z"},{"type":"ContainersReady","status":"True","lastTransitionTime":"2026-11-01T10:00:09Z"},{"type":"PodScheduled","status":"True","lastTransitionTime":"2026-11-01T10:00:01Z"}],
"hostIP":"192.168.7.9","hostIPs":[{"ip":"192.168.7.9"}],"podIP":"%[7]s","podIPs":[{"ip":"%[7]s"}],"startTime":"2026-11-01T10:00:01Z",
"containerStatuses":[{"name":"main","state":{"running":{"startedAt":"2026-11-01T10:00:04Z"}},"lastState":{},"ready":true,"restartCount":0,"image":"registry.example/team/%[4]s:v1.14.3",
"imageID":"registry.example/team/%[4]s@sha256:5d3b7f0a1f0f4a1a6c9b8d7e6f5a4b3c2d1e0f9a8b7c6d5e4f3a2b1c0d9e8f7a","containerID":"containerd://9f8e7d6c5b4a39281706f5e4d3c2b1a09f8e7d6c5b4a39281706f5e4d3c2b1a0","started":true}],"qosClass":"Burstable"}}`,
		p.Name, p.Namespace, id, p.App, p.Tier, p.Node, p.Address)
}
