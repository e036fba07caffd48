{{- define "fhir-export.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Name of objects without a namespace: two releases of the same name may be in two namespaces. */}}
{{- define "fhir-export.clusterName" -}}
{{- printf "%s.%s" (include "fhir-export.fullname" .) .Release.Namespace -}}
{{- end -}}

{{- define "fhir-export.selector" -}}
app.kubernetes.io/name: {{ default .root.Chart.Name .root.Values.nameOverride | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* dict root component */}}
{{- define "fhir-export.labels" -}}
{{ include "fhir-export.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "fhir-export.image" -}}
{{- $image := .Values.image -}}
{{- $name := $image.repository -}}
{{- if $image.registry -}}{{- $name = printf "%s/%s" $image.registry $image.repository -}}{{- end -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $name $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name (default .Chart.AppVersion $image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "fhir-export.pullSecretName" -}}
{{- printf "%s-pull" (include "fhir-export.fullname" .) -}}
{{- end -}}

{{/* Names of the pull Secrets, as JSON: {"names": [...]} */}}
{{- define "fhir-export.pullSecrets" -}}
{{- $names := list -}}
{{- range .Values.imagePullSecrets -}}{{- $names = append $names (kindIs "map" . | ternary (get (kindIs "map" . | ternary . dict) "name") .) -}}{{- end -}}
{{- if .Values.imageCredentials.registry -}}{{- $names = append $names (include "fhir-export.pullSecretName" .) -}}{{- end -}}
{{- dict "names" $names | toJson -}}
{{- end -}}

{{- define "fhir-export.imagePullSecrets" -}}
{{- with (include "fhir-export.pullSecrets" . | fromJson).names }}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "fhir-export.operator.serviceAccount" -}}
{{- .Values.operator.serviceAccount.name | default (.Values.operator.serviceAccount.create | ternary (printf "%s-operator" (include "fhir-export.fullname" .)) "default") -}}
{{- end -}}

{{- define "fhir-export.shim.serviceAccount" -}}
{{- .Values.shim.serviceAccount.name | default (.Values.shim.serviceAccount.create | ternary (printf "%s-shim" (include "fhir-export.fullname" .)) "default") -}}
{{- end -}}

{{/* Namespaces whose FhirExports the operator runs, as JSON: {"names": [...]}; an empty list means all */}}
{{- define "fhir-export.namespaces" -}}
{{- $names := .Values.scope.namespaces -}}
{{- if and .Values.scope.namespaced (not $names) -}}{{- $names = list .Release.Namespace -}}{{- end -}}
{{- dict "names" $names | toJson -}}
{{- end -}}

{{/* Names of the FhirSource and the ExportTarget of the HTTP service; empty if there is none */}}
{{- define "fhir-export.sourceName" -}}
{{- if .Values.source.baseURL -}}{{- .Values.source.name | default (include "fhir-export.fullname" .) -}}{{- end -}}
{{- end -}}
{{- define "fhir-export.targetName" -}}
{{- if or .Values.target.azureBlob .Values.target.volume -}}{{- .Values.target.name | default (include "fhir-export.fullname" .) -}}{{- end -}}
{{- end -}}
{{- define "fhir-export.shim.source" -}}
{{- .Values.shim.source | default (include "fhir-export.sourceName" .) -}}
{{- end -}}
{{- define "fhir-export.shim.target" -}}
{{- .Values.shim.target | default (include "fhir-export.targetName" .) -}}
{{- end -}}

{{/* "true" if the HTTP service is made, else nothing */}}
{{- define "fhir-export.shim.enabled" -}}
{{- if and .Values.shim.enabled (include "fhir-export.shim.source" .) (include "fhir-export.shim.target" .) -}}true{{- end -}}
{{- end -}}

{{- define "fhir-export.admissionPolicy" -}}
{{- if kindIs "invalid" .Values.admissionPolicy.enabled -}}
{{- if not .Values.scope.namespaced -}}true{{- end -}}
{{- else if .Values.admissionPolicy.enabled -}}true{{- end -}}
{{- end -}}

{{/* Names of the Secrets that the chart makes from values */}}
{{- define "fhir-export.sourceSecret" -}}{{- printf "%s-source" (include "fhir-export.fullname" .) -}}{{- end -}}
{{- define "fhir-export.targetSecret" -}}{{- printf "%s-target" (include "fhir-export.fullname" .) -}}{{- end -}}
{{- define "fhir-export.targetClaim" -}}{{- printf "%s-exports" (include "fhir-export.fullname" .) -}}{{- end -}}

{{/* ExportTarget.spec, as JSON */}}
{{- define "fhir-export.targetSpec" -}}
{{- $spec := dict -}}
{{- $target := .Values.target -}}
{{- if and $target.azureBlob $target.volume -}}{{- fail "target: only one of azureBlob and volume can be given" -}}{{- end -}}
{{- if $target.azureBlob -}}
{{- $blob := deepCopy $target.azureBlob -}}
{{- if and $target.secret (not $blob.auth) -}}
{{- $ref := dict "name" (include "fhir-export.targetSecret" .) -}}
{{- $_ := set $blob "auth" (hasKey $target.secret "sas-token" | ternary (dict "sasRef" $ref) (dict "connectionStringRef" $ref)) -}}
{{- end -}}
{{- $_ := set $spec "azureBlob" $blob -}}
{{- else if $target.volume -}}
{{- $volume := deepCopy $target.volume -}}
{{- if not $volume.claimName -}}
{{- if not $target.persistentVolumeClaim.create -}}{{- fail "target.volume.claimName: name a claim, or set target.persistentVolumeClaim.create" -}}{{- end -}}
{{- $_ := set $volume "claimName" (include "fhir-export.targetClaim" .) -}}
{{- end -}}
{{- $_ := set $spec "volume" $volume -}}
{{- end -}}
{{- toJson $spec -}}
{{- end -}}

{{/* FhirSource.spec, as JSON */}}
{{- define "fhir-export.sourceSpec" -}}
{{- $source := .Values.source -}}
{{- $spec := dict "baseURL" $source.baseURL "settleSeconds" (int $source.settleSeconds) "history" $source.history "links" $source.links -}}
{{- $auth := deepCopy $source.auth -}}
{{- if $source.secret -}}
{{- range $kind, $keys := dict "basic" "username" "bearer" "token" "oauth2" "client-secret" "smart" "private-key.jwk" -}}
{{- if and (not $source.auth) (hasKey $source.secret $keys) (has $kind (list "basic" "bearer")) -}}{{- $_ := set $auth $kind dict -}}{{- end -}}
{{- end -}}
{{- range $kind, $way := $auth -}}
{{- if and (ne $kind "none") (ne $kind "workloadIdentity") -}}
{{- if not $way.secretRef -}}{{- $_ := set $way "secretRef" (dict "name" (include "fhir-export.sourceSecret" $)) -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- with $auth -}}{{- $_ := set $spec "auth" . -}}{{- end -}}
{{- $tls := deepCopy $source.tls -}}
{{- if $source.caBundle -}}{{- $_ := set $tls "caRef" (dict "kind" "ConfigMap" "name" (printf "%s-source-ca" (include "fhir-export.fullname" .))) -}}{{- end -}}
{{- with $tls -}}{{- $_ := set $spec "tls" . -}}{{- end -}}
{{- with $source.headers -}}{{- $_ := set $spec "headers" . -}}{{- end -}}
{{- with $source.proxy -}}{{- $_ := set $spec "proxy" . -}}{{- end -}}
{{- with $source.paging -}}{{- $_ := set $spec "paging" . -}}{{- end -}}
{{- with $source.limits -}}{{- $_ := set $spec "limits" . -}}{{- end -}}
{{- toJson $spec -}}
{{- end -}}

{{- define "fhir-export.shim.servicePort" -}}
{{- .Values.shim.service.port | default (ternary 443 80 (not (empty .Values.shim.tls.secretName))) -}}
{{- end -}}

{{- define "fhir-export.shim.publicURL" -}}
{{- $shim := .Values.shim -}}
{{- if $shim.publicURL -}}
{{- $shim.publicURL | trimSuffix "/" -}}
{{- else if and $shim.ingress.enabled $shim.ingress.host -}}
{{- printf "%s://%s%s" (ternary "https" "http" (not (empty $shim.ingress.tlsSecretName))) $shim.ingress.host ($shim.ingress.path | trimSuffix "/") -}}
{{- else if and $shim.httpRoute.enabled $shim.httpRoute.hostnames -}}
{{- printf "https://%s%s" (first $shim.httpRoute.hostnames) ($shim.httpRoute.path | trimSuffix "/") -}}
{{- else -}}
{{- $port := include "fhir-export.shim.servicePort" . | int -}}
{{- $scheme := ternary "https" "http" (not (empty $shim.tls.secretName)) -}}
{{- $shown := eq $port (ternary 443 80 (not (empty $shim.tls.secretName))) | ternary "" (printf ":%d" $port) -}}
{{- printf "%s://%s-shim.%s.svc%s" $scheme (include "fhir-export.fullname" .) .Release.Namespace $shown -}}
{{- end -}}
{{- end -}}

{{/* "true" if the HTTP service issues tokens and so needs a signing key, else nothing */}}
{{- define "fhir-export.shim.signs" -}}
{{- with .Values.shim.config.auth -}}{{- if not .issuer -}}true{{- end -}}{{- end -}}
{{- end -}}
{{- define "fhir-export.shim.signingSecret" -}}
{{- .Values.shim.signingKey.existingSecret | default (printf "%s-signing" (include "fhir-export.fullname" .)) -}}
{{- end -}}

{{/* The settings of the HTTP service, as JSON */}}
{{- define "fhir-export.shim.config" -}}
{{- $config := deepCopy .Values.shim.config -}}
{{- if and (include "fhir-export.shim.signs" .) (not $config.auth.tokens) -}}
{{- $_ := set $config.auth "tokens" (dict "signingKeyFiles" (list "/etc/fhir-export/signing/signing.jwk")) -}}
{{- end -}}
{{- toJson $config -}}
{{- end -}}

{{- define "fhir-export.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}
{{- define "fhir-export.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* dict root component values */}}
{{- define "fhir-export.scheduling" -}}
{{- with .values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if .values.affinity }}
affinity:
  {{- toYaml .values.affinity | nindent 2 }}
{{- else }}
affinity:
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels:
              {{- include "fhir-export.selector" . | nindent 14 }}
{{- end }}
{{- with .values.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}
