// Says so to a browser that cannot run the page, in words that such a browser understands: no modules, nothing new.
(function () {
  var modules = "noModule" in document.createElement("script");
  var signals = "AbortSignal" in window && "any" in AbortSignal && "timeout" in AbortSignal;
  var streams = "TextDecoderStream" in window;
  if (!modules || !signals || !streams) document.getElementById("too-old").removeAttribute("hidden");
})();
