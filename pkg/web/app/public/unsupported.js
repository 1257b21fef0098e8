// Runs in browsers that know no modules, so in their language: the app will not start.
window.onload = function () {
  var e = document.getElementById('unsupported');
  if (e) e.removeAttribute('hidden');
};
